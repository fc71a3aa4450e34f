"""What every request to S3 needs: how reading is repeated, and what an answer's error code means."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
)

from etl.errors import ConfigurationError, GroundlakeError
from etl.storage.base import StorageError
from etl.storage.faults import by_code

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

TRIES = 4  # requests that we repeat ourselves, beyond what botocore does
ABSENT = {"404", "NoSuchKey", "NotFound"}
CONDITION_FAILED = {"412", "PreconditionFailed"}
CONFLICT = {"409", "ConditionalRequestConflict"}  # another conditional write is under way: ask again
_MUTE = {"301", "400", "403"}  # the answer to a HEAD has no body, so these do not say why
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError)
_LOST_CREDENTIALS = (CredentialRetrievalError, SSOError)  # once there were some, or there should be


def error_code(error: ClientError) -> str:
    """The code of an answer, or its HTTP status where it has none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def was_repeated(error: ClientError) -> bool:
    """Whether botocore sent the request more than once: an earlier one may have been carried out."""
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


def pause(attempt: int) -> None:
    """Wait before the next try, longer each time, with jitter."""
    time.sleep(random.uniform(0, 0.1 * 2 ** min(attempt, 5)))  # noqa: S311 - jitter, not a secret


def fetch(client: S3Client, bucket: str, name: str, offset: int = 0, length: int | None = None, **more: Any) -> bytes:
    """The bytes of an object, or of a span of it; fewer when it ends inside the span, none when before it."""
    if length is not None:
        more["Range"] = f"bytes={offset}-{offset + length - 1}"
    for attempt in range(TRIES):
        try:
            return client.get_object(Bucket=bucket, Key=name, **more)["Body"].read()
        except ClientError as error:
            if error_code(error) == "InvalidRange":
                return b""
            raise
        except BotoCoreError:  # botocore repeats a request, but not one whose body breaks off
            if attempt + 1 == TRIES:
                raise
        pause(attempt)
    raise AssertionError("the last request answers or raises")


def head(client: S3Client, bucket: str, name: str, *, must_exist: bool) -> HeadObjectOutputTypeDef:
    """What is known of an object; raises what boto3 does, with the reason in it.

    Args:
        client: The S3 client.
        bucket: The bucket.
        name: The object.
        must_exist: Whether to ask, where there is none, if it is the bucket that is missing.
    """
    try:
        return client.head_object(Bucket=bucket, Key=name)
    except ClientError as error:
        if error_code(error) in (_MUTE | ABSENT if must_exist else _MUTE):
            fetch(client, bucket, name, 0, 1)  # its refusal says why
        raise


def typed(error: ClientError | BotoCoreError, operation: str, key: str, place: str, endpoint: str) -> GroundlakeError:
    """The error of the store that a failed request stands for; a missing key is its caller's to tell."""
    if isinstance(error, ClientError):
        found = by_code(error_code(error), operation, key, place, _message(error))
        return found or StorageError(operation, key, error, remedy="run the command again: what is written stays")
    if isinstance(error, _NO_CREDENTIALS):
        remedy = "set AWS_ACCESS_KEY_ID and its secret, or a role"
        return ConfigurationError(f"cannot {operation} {key!r}: {place}: {error}", remedy=remedy)
    if isinstance(error, _LOST_CREDENTIALS):
        found = by_code("ExpiredToken", operation, key, place, error)
        assert found is not None, "a code of the table"
        return found
    remedy = f"check the network and the endpoint {endpoint}, then run the command again: what is written stays"
    return StorageError(operation, key, error, remedy=remedy)


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """For cleaning up after something that failed or is done: its own outcome says more than that of the broom."""
    with contextlib.suppress(ClientError, BotoCoreError, GroundlakeError):
        yield


def _message(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", ""))
