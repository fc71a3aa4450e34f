"""The interface every store offers; keys are relative to the store's root and use forward slashes."""

from __future__ import annotations

import contextlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import ConfigurationError, DataError, RetryableError


class StorageError(RetryableError):
    """A store could not do what was asked; carries the operation and the key."""

    def __init__(self, operation: str, key: str, cause: object, *, remedy: str | None = None) -> None:
        super().__init__(f"cannot {operation} {key!r}: {cause}", remedy=remedy)
        self.operation, self.key = operation, key


class NotFoundError(DataError):
    """There is no object under this key."""

    def __init__(self, uri: str, key: str) -> None:
        super().__init__(f"no object {key!r} in {uri}")
        self.key = key


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object: key relative to the store, size in bytes, time of last change (seconds, UTC)."""

    key: str
    size: int
    modified: float


class Store(ABC):
    """Bytes under keys. Whatever is published is whole or absent, never half written."""

    uri: str

    @abstractmethod
    def read(self, key: str) -> bytes:
        """All bytes of an object; raises NotFoundError."""

    @abstractmethod
    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; raises NotFoundError, or StorageError when there are fewer."""

    @abstractmethod
    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file, which appears whole; raises NotFoundError."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object atomically."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; returns whether it was written. Of two racing writers one wins.

        Raises:
            ConfigurationError: The place has no means for it (a file system without hard links).
        """

    @abstractmethod
    def publish_file(self, path: Path, key: str) -> None:
        """Copy a local file to ``key`` atomically, replacing what is there."""

    @abstractmethod
    def stat(self, key: str) -> ObjectInfo | None:
        """What is known of one object, or None when there is none."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with ``prefix``, in key order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""

    @abstractmethod
    def delta_options(self) -> dict[str, str] | None:
        """The ``storage_options`` with which delta-rs reaches the same place."""

    def probe(self) -> None:
        """Find out whether ``put_if_absent`` keeps its word here: without it, twins would overwrite each other.

        Raises:
            ConfigurationError: It does not.
            StorageError: The place cannot be written at all.
        """
        key = f"probe-{uuid.uuid4().hex}"
        try:
            answers = self.put_if_absent(key, b"first"), self.put_if_absent(key, b"second")
            kept = self.read(key)
        finally:
            with contextlib.suppress(StorageError):  # the probe's own error says more
                self.delete(key)
        if answers != (True, False) or kept != b"first":
            raise ConfigurationError(
                f"{self.uri} does not honour conditional writes: a second write of one key replaced the first",
                remedy="choose a store whose PUT honours If-None-Match (S3 does), or a local folder",
            )

    def join(self, key: str) -> str:
        """The full uri of a key."""
        return f"{self.uri.rstrip('/')}/{key}"

    def read_json(self, key: str) -> dict[str, Any]:
        """An object parsed as a JSON mapping; raises NotFoundError, DataError."""
        try:
            content = json.loads(self.read(key))
        except ValueError as error:
            raise DataError(f"{self.join(key)} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise DataError(f"{self.join(key)}: expected a JSON mapping, got {type(content).__name__}")
        return content
