"""From a uri to its store."""

from __future__ import annotations

from pathlib import Path

from etl.errors import ConfigurationError
from etl.storage.base import Store
from etl.storage.local import LocalStore


def open_store(uri: str) -> Store:
    """The store at ``uri``: a path, ``file://…`` or ``s3://bucket/prefix``.

    Raises:
        ConfigurationError: The scheme is not supported.
    """
    if uri.startswith("s3://"):
        from etl.storage.s3 import S3Store  # boto3 takes a second to import

        return S3Store(uri)
    if "://" not in uri:
        return LocalStore(Path(uri))
    if uri.startswith("file://"):
        return LocalStore(Path(uri.removeprefix("file://")))
    raise ConfigurationError(f"unsupported store {uri!r}", remedy="use a folder, file:///… or s3://bucket/prefix")
