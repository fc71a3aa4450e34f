"""The older versions of an object, which a bucket with versioning keeps when it is replaced or deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from etl.errors import ConfigurationError
from etl.storage.s3_calls import error_code

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_REFUSED = {"403", "AccessDenied", "Forbidden", "405", "MethodNotAllowed", "InvalidRequest", "ObjectLocked"}
_UNKNOWN = "NotImplemented"  # a store that never heard of versions keeps none


def forget_versions(client: S3Client, bucket: str, name: str, operation: str, place: str) -> None:
    """Delete every version of an object but the present one.

    Raises:
        ConfigurationError: We may not ask about versions or delete them (policy, object lock), so bytes may remain.
        ClientError: The store failed; for the caller to type.
    """
    try:
        if _keeps_versions(client, bucket):
            for version in _versions(client, bucket, name):
                client.delete_object(Bucket=bucket, Key=name, VersionId=version)
    except ClientError as error:
        if error_code(error) not in _REFUSED:
            raise
        said = error.response.get("Error", {}).get("Message", "")
        raise ConfigurationError(
            f"cannot {operation} {name!r} for good: {place}: older versions of it may remain, which we may not see or "
            f"delete ({error_code(error)}: {said})",
            remedy="allow s3:GetBucketVersioning, s3:ListBucketVersions and s3:DeleteObjectVersion (an object lock "
            "must end first), then run the command again",
        ) from error


def _keeps_versions(client: S3Client, bucket: str) -> bool:
    try:
        # Absent when it was never switched on; "Suspended" keeps what was made before.
        return client.get_bucket_versioning(Bucket=bucket).get("Status") is not None
    except ClientError as error:
        if error_code(error) != _UNKNOWN:
            raise
        return False


def _versions(client: S3Client, bucket: str, name: str) -> Iterator[str]:
    """The ids of an object's versions but the present one."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=name):
        for version in page.get("Versions", ()):
            if version["Key"] != name:
                return  # by name: ours are all before it
            if not version["IsLatest"]:
                yield version["VersionId"]
