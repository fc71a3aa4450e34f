"""What failed, said in words: from the code of an S3 answer, or the number of a system error, to a typed error.

The same two tables serve boto3, local files and the texts of delta-rs, so one fault reads the same wherever it is met.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from etl.errors import ConfigurationError, GroundlakeError
from etl.storage.base import LastingError, StorageError

_AGAIN = "then run the command again: nothing is lost, it resumes"
_ALLOW = f"check the credentials, the bucket's policy and the lake's uri, {_AGAIN}"


@dataclass(frozen=True)
class _Fault:
    """What a symptom means, what to do, and whether waiting helps (StorageError), might, or does not."""

    kind: type[GroundlakeError]
    what: str
    remedy: str


_MAY_NOT = _Fault(ConfigurationError, "the credentials in use may not do this", _ALLOW)
_EXPIRED = _Fault(
    LastingError,
    "the credentials have expired or cannot be renewed",
    f"log in again, or let the role renew them, {_AGAIN}",
)
_ELSEWHERE = _Fault(ConfigurationError, "the bucket lies in another region", f"set AWS_REGION to it, {_AGAIN}")
_FULL = _Fault(LastingError, "the store is full", f"free space there or raise its quota, {_AGAIN}")
_THROTTLED = _Fault(
    StorageError, "the store throttles or is overloaded, also after waiting", f"use fewer processes, {_AGAIN}"
)

_CODES: dict[str, _Fault] = {
    **dict.fromkeys(("403", "AccessDenied", "Forbidden", "AllAccessDisabled"), _MAY_NOT),
    "InvalidAccessKeyId": _Fault(ConfigurationError, "the access key is unknown there", _ALLOW),
    "InvalidToken": _Fault(ConfigurationError, "the session token is wrong", _ALLOW),
    "SignatureDoesNotMatch": _Fault(ConfigurationError, "the secret key is wrong", _ALLOW),
    "NoSuchBucket": _Fault(ConfigurationError, "the bucket does not exist", _ALLOW),
    **dict.fromkeys(("301", "PermanentRedirect", "AuthorizationHeaderMalformed"), _ELSEWHERE),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"), _EXPIRED),
    "RequestTimeTooSkewed": _Fault(
        LastingError,
        "the clock of this machine differs from the store's",
        f"correct this machine's clock (NTP), {_AGAIN}",
    ),
    **dict.fromkeys(("507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"), _FULL),
    **dict.fromkeys(
        ("503", "429", "SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "TooManyRequests"), _THROTTLED
    ),
    **dict.fromkeys(("Throttling", "ThrottlingException", "RequestLimitExceeded"), _THROTTLED),
}

_WRITABLE = _Fault(ConfigurationError, "this user may not do this", f"give this user write access there, {_AGAIN}")
_MANY_FILES = _Fault(StorageError, "too many open files", f"raise the limit (ulimit -n), {_AGAIN}")
_NUMBERS: dict[int, _Fault] = {
    errno.ENOSPC: _Fault(LastingError, "the disk is full", f"free space on it, {_AGAIN}"),
    errno.EDQUOT: _Fault(LastingError, "the disk quota is used up", f"raise it, {_AGAIN}"),
    errno.EFBIG: _Fault(
        LastingError, "the file would be larger than allowed", f"raise the limit (ulimit -f, or the disk), {_AGAIN}"
    ),
    errno.EROFS: _Fault(ConfigurationError, "the disk is read-only", f"mount it writable, {_AGAIN}"),
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EMFILE: _MANY_FILES,
    errno.ENFILE: _MANY_FILES,
}


def by_code(code: str, operation: str, key: str, place: str, cause: object = "") -> GroundlakeError | None:
    """The error that an S3 code stands for; None when it says nothing more than "failed".

    Args:
        code: As in ``<Code>`` of the answer, or the HTTP status where the answer has no body.
        operation: What was tried: "read", "commit", ….
        key: On what.
        place: The store's uri.
        cause: The error as it was told, for the message.
    """
    return _made(_CODES.get(code), code, operation, key, place, cause)


def by_number(number: int, operation: str, key: str, place: str, cause: object = "") -> GroundlakeError | None:
    """The error that a system error's number stands for; arguments as of ``by_code``."""
    return _made(_NUMBERS.get(number), errno.errorcode.get(number, ""), operation, key, place, cause)


def _made(
    fault: _Fault | None, symptom: str, operation: str, key: str, place: str, cause: object
) -> GroundlakeError | None:
    if fault is None:
        return None
    what = f"{fault.what} ({symptom})" + (f": {cause}" if cause else "")
    if issubclass(fault.kind, StorageError):
        return fault.kind(operation, key, f"{place}: {what}", remedy=fault.remedy)
    return fault.kind(f"cannot {operation} {key!r}: {place}: {what}", remedy=fault.remedy)
