"""A bucket, or a prefix of one, as a store; any endpoint that speaks S3 with conditional writes will do.

Where to find it and who we are comes from boto3's usual places (``AWS_ENDPOINT_URL``, ``AWS_REGION``, keys, profiles,
roles). Objects appear whole: S3 shows an upload when it is finished, a multipart one too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from etl.errors import ConfigurationError, GroundlakeError
from etl.storage.base import NotFoundError, ObjectInfo, StorageError, Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT, READ_TIMEOUT, TRIES = 5, 30, 4  # seconds, seconds, requests that we repeat ourselves
_TRANSFER = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=4)
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError)
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_CONDITION_FAILED = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict"}  # another conditional write is under way: ask again
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_REFUSED = {  # trying again changes nothing
    "403": "the credentials in use may not do this",
    "AccessDenied": "the credentials in use may not do this",
    "Forbidden": "the credentials in use may not do this",
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "NoSuchBucket": "the bucket does not exist",
}


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
        data = self._get(key, f"bytes={offset}-{offset + length - 1}") if length else b""
        if len(data) != length:
            raise StorageError("read", key, f"{length} bytes from {offset} wanted, {len(data)} there")
        return data

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
                    if _code(error) in _CONDITION_FAILED:
                        # botocore may have repeated a request that was carried out but never answered, and so have
                        # met our own object: that is no lost race.
                        return _repeated(error) and self.read(key) == data
                    if _code(error) not in _CONFLICT or attempt + 1 == TRIES:
                        raise
                else:
                    return True
            time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - jitter, not a secret
        raise AssertionError("the last request answers or raises")

    def publish_file(self, path: Path, key: str) -> None:
        with self._errors("write", key):
            self._client.upload_file(str(path), self.bucket, self._name(key), Config=_TRANSFER)

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            with self._errors("look up", key):
                found = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
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
        credentials = _session().get_credentials()
        if credentials is not None:  # else delta-rs looks for a role by itself
            frozen = credentials.get_frozen_credentials()
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

    def _get(self, key: str, span: str | None = None) -> bytes:
        """The bytes of an object, or of a span of it; none when it ends before the span."""
        wanted: dict[str, Any] = {"Range": span} if span else {}
        for attempt in range(TRIES):
            with self._errors("read", key):
                try:
                    return self._client.get_object(Bucket=self.bucket, Key=self._name(key), **wanted)["Body"].read()
                except ClientError as error:
                    if _code(error) == "InvalidRange":
                        return b""
                    raise
                except BotoCoreError:  # botocore repeats a request, but not one whose body breaks off
                    if attempt + 1 == TRIES:
                        raise
        raise AssertionError("the last request answers or raises")

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._typed(error, operation, key) from error
        except S3UploadFailedError as error:
            answer = error.__context__
            typed = self._typed(answer, operation, key) if isinstance(answer, ClientError) else None
            raise typed or StorageError(operation, key, error) from error
        except _NO_CREDENTIALS as error:
            raise ConfigurationError(
                f"cannot {operation} {self.join(key)}: {error}",
                remedy="set AWS_ACCESS_KEY_ID and its secret, or a role",
            ) from error
        except BotoCoreError as error:
            remedy = f"check the network and the endpoint {self._client.meta.endpoint_url}, then run the command again"
            raise StorageError(operation, key, error, remedy=remedy) from error
        except OSError as error:
            raise StorageError(
                operation, key, error, remedy="check the local disk, then run the command again"
            ) from error

    def _typed(self, error: ClientError, operation: str, key: str) -> GroundlakeError:
        code = _code(error)
        if code in _ABSENT:
            return NotFoundError(self.uri, key)
        if code in _REFUSED:
            return ConfigurationError(
                f"cannot {operation} {self.join(key)}: {_REFUSED[code]} ({code})",
                remedy=f"check the credentials, the policy of bucket {self.bucket!r} and the lake's uri",
            )
        if code in _EXPIRED:
            remedy = "log in again (or let the role renew them), then run the command again: what is written stays"
            return StorageError(operation, key, f"the credentials have expired ({code})", remedy=remedy)
        return StorageError(operation, key, error, remedy="run the command again: what is written stays")


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
    return Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=32,
        retries={"mode": "standard"},  # AWS_MAX_ATTEMPTS says how many
        **options,
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _repeated(error: ClientError) -> bool:
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
