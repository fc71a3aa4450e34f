"""A bucket, or a prefix of one, as a store; any endpoint that speaks S3 with conditional writes will do.

Where to find it and who we are comes from boto3's usual places (``AWS_ENDPOINT_URL``, ``AWS_REGION``, keys, profiles,
roles). Objects appear whole: S3 shows an upload when it is finished, a multipart one too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from etl.errors import ConfigurationError
from etl.storage.base import NotFoundError, ObjectInfo, StorageError, Store
from etl.storage.faults import by_number
from etl.storage.s3_calls import (
    ABSENT,
    CONDITION_FAILED,
    CONFLICT,
    TRIES,
    error_code,
    fetch,
    head,
    pause,
    typed,
    was_repeated,
)
from etl.storage.s3_erase import Eraser
from etl.storage.s3_versions import forget_versions
from etl.storage.spans import Window, windows

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT, READ_TIMEOUT = 5, 30  # seconds
_ATTEMPTS = 5  # requests in all, with growing waits between them: a throttling store is given about ten seconds
# Bytes between spans that are read too; the most that is read in one request; requests at once.
_NEAR, _MOST, _THREADS = 64 << 10, 16 << 20, 8
_AGAIN = "run the command again: what is written stays"
_TRANSFER = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=4)


class S3Store(Store):
    """Objects below ``s3://bucket/prefix``.

    Args:
        uri: ``s3://bucket`` or ``s3://bucket/prefix``; the bucket must exist.

    Raises:
        ConfigurationError: The uri names no bucket, or the profile or endpoint is not valid.
    """

    def __init__(self, uri: str) -> None:
        place = urlsplit(uri)
        if place.scheme != "s3" or not place.netloc:
            raise ConfigurationError(f"{uri!r} names no bucket", remedy="write s3://bucket/prefix")
        self.bucket, self.prefix = place.netloc, place.path.strip("/")
        self.uri = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        try:
            self._client: S3Client = _session().client("s3", config=_config(endpoint))
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"cannot reach {uri}: {error}", remedy="correct the AWS_ settings") from error

    def read(self, key: str) -> bytes:
        return self._get(key)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        data = self._get(key, offset, length) if length else b""
        if len(data) != length:
            raise StorageError("read", key, f"{length} bytes from {offset} wanted, {len(data)} there")
        return data

    def read_ranges(self, key: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        found = [b""] * len(spans)
        wanted = windows(spans, gap=_NEAR, limit=_MOST)

        def read(window: Window) -> None:
            data = memoryview(self._get(key, window.offset, window.length))
            for position in window.members:
                offset, length = spans[position]
                found[position] = bytes(data[offset - window.offset :][:length])
                if len(found[position]) != length:
                    there = len(found[position])
                    raise StorageError("read", key, f"{length} bytes from {offset} wanted, {there} there")

        with ThreadPoolExecutor(min(len(wanted), _THREADS) or 1) as pool:
            list(pool.map(read, wanted))
        return found

    def download(self, key: str, path: Path) -> None:
        with self._errors("download", key):
            self._client.download_file(self.bucket, self._name(key), str(path), Config=_TRANSFER)

    def put(self, key: str, data: bytes) -> None:
        with self._errors("write", key):
            self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        for attempt in range(TRIES):
            with self._errors("write", key):
                try:
                    self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data, IfNoneMatch="*")
                except ClientError as error:
                    if error_code(error) in CONDITION_FAILED:
                        # botocore may have repeated a request that was carried out but never answered, and so have
                        # met our own object: that is no lost race.
                        return was_repeated(error) and self.read(key) == data
                    if error_code(error) not in CONFLICT or attempt + 1 == TRIES:
                        raise
                else:
                    return True
            pause(attempt)
        raise AssertionError("the last request answers or raises")

    def publish_file(self, path: Path, key: str) -> None:
        with self._errors("write", key):
            self._client.upload_file(str(path), self.bucket, self._name(key), Config=_TRANSFER)

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            with self._errors("look up", key):
                found = head(self._client, self.bucket, self._name(key), must_exist=False)
        except NotFoundError:
            return None
        return ObjectInfo(key, found["ContentLength"], found["LastModified"].timestamp())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        strip = len(self._name(""))
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._name(prefix))
        with self._errors("list", prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield ObjectInfo(found["Key"][strip:], found["Size"], found["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        with self._errors("delete", key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def erase(self, key: str, spans: Sequence[tuple[int, int]]) -> int:
        wanted = windows(spans)
        if wanted:
            with self._errors("erase", key):
                self._eraser.erase(key, self._name(key), wanted)
        return sum(window.length for window in wanted)

    def destroy(self, key: str) -> None:
        self.delete(key)
        with self._errors("delete", key):
            forget_versions(self._client, self.bucket, self._name(key), "delete", self.uri)

    def leftovers(self, older_than: float) -> Iterator[ObjectInfo]:
        return (found for found, _ in self._leftovers(older_than))

    def remove_leftovers(self, before: float, *, dry_run: bool = False) -> int:
        count = 0
        for count, (found, upload) in enumerate(self._leftovers(before), 1):  # noqa: B007 - the last count
            if not dry_run:
                self._abort(found.key, upload)
        return count

    def delta_options(self) -> dict[str, str] | None:
        """The options for one handle: delta-rs does not renew credentials, so ask again for every handle."""
        options = {
            "AWS_REGION": self._client.meta.region_name or "us-east-1",
            "timeout": f"{READ_TIMEOUT}s",
            "connect_timeout": f"{CONNECT_TIMEOUT}s",
            "max_retries": "5",
            "retry_timeout": "60s",
        }
        endpoint = self._client.meta.endpoint_url
        if not (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
            options["AWS_ENDPOINT_URL"] = endpoint
            options["AWS_ALLOW_HTTP"] = str(endpoint.startswith("http://")).lower()
        with self._errors("sign in to", self.bucket):
            credentials = _session().get_credentials()
            frozen = credentials.get_frozen_credentials() if credentials else None
        if frozen:  # else delta-rs looks for a role by itself
            given = {
                "AWS_ACCESS_KEY_ID": frozen.access_key,
                "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
                "AWS_SESSION_TOKEN": frozen.token,
            }
            options |= {name: value for name, value in given.items() if value}
        return options

    def _name(self, key: str) -> str:
        """The full name of a key in the bucket; raises ConfigurationError when it leads out of the store."""
        if key.startswith("/") or posixpath.normpath(key).split("/")[0] == "..":
            raise ConfigurationError(f"key {key!r} leads outside the store {self.uri}")
        return f"{self.prefix}/{key}" if self.prefix else key

    def _get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes of an object, or of a span of it; none when it ends before the span."""
        with self._errors("read", key):
            return fetch(self._client, self.bucket, self._name(key), offset, length)

    @functools.cached_property
    def _eraser(self) -> Eraser:
        return Eraser(self._client, self.bucket, self.uri, self._name(""))

    def _leftovers(self, before: float) -> Iterator[tuple[ObjectInfo, str]]:
        """Unfinished uploads, with their ids; a part that came late keeps its upload young."""
        strip = len(self._name(""))
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self._name(""))
        with self._errors("list", "unfinished uploads"):
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"].timestamp() < before:
                        found = self._unfinished(upload["Key"], upload["UploadId"], upload["Initiated"].timestamp())
                        if found.modified < before:
                            yield ObjectInfo(found.key[strip:], found.size, found.modified), upload["UploadId"]

    def _unfinished(self, name: str, upload: str, begun: float) -> ObjectInfo:
        size = 0
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=name, UploadId=upload)
        with contextlib.suppress(self._client.exceptions.NoSuchUpload):  # finished or aborted meanwhile
            for page in pages:
                for part in page.get("Parts", ()):
                    size, begun = size + part["Size"], max(begun, part["LastModified"].timestamp())
        return ObjectInfo(name, size, begun)

    def _abort(self, key: str, upload: str) -> None:
        with self._errors("delete", key), contextlib.suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(Bucket=self.bucket, Key=self._name(key), UploadId=upload)

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            # The movers of files hide the answer in their own errors.
            answer = error.__context__ if isinstance(error, Boto3Error) else error
            if isinstance(answer, ClientError) and error_code(answer) in ABSENT:
                raise NotFoundError(self.uri, key) from error
            if isinstance(answer, ClientError | BotoCoreError):
                raise typed(answer, operation, key, self.uri, self._client.meta.endpoint_url) from error
            raise StorageError(operation, key, error, remedy=_AGAIN) from error
        except OSError as error:
            found = by_number(error.errno or 0, operation, key, "this machine", error)
            raise found or StorageError(operation, key, error, remedy=f"check the local disk; {_AGAIN}") from error


@functools.cache
def _session() -> boto3.Session:
    """One per process: it keeps the credentials fresh, and takes half a second to read what S3 is."""
    return boto3.Session()


def _config(endpoint: str | None) -> Config:
    options: dict[str, Any] = {}
    if endpoint:  # other servers seldom resolve bucket names as hosts, or know the newer checksums
        options = {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        options["retries"] = {"mode": "standard", "total_max_attempts": _ATTEMPTS}
    else:
        options["retries"] = {"mode": "standard"}
    return Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=32,
        **options,
    )
