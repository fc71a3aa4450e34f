"""What delta-rs says when the place fails, as the typed error that it stands for.

delta-rs raises builtin errors whose only content is text: an S3 answer's code or a system error's number is in there,
wrapped in colours and, with ``RUST_BACKTRACE``, in a backtrace.
"""

from __future__ import annotations

import re

from etl.errors import ConfigurationError, GroundlakeError
from etl.storage import LastingError
from etl.storage.faults import by_code, by_number

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BACKTRACE = re.compile(r"\n\s*(stack backtrace:|0: ).*", re.DOTALL)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"non-2xx status code: (\d{3})\b")
_NUMBER = re.compile(r"\(os error (\d+)\)")
_OF_THE_NETWORK = ("HTTP error", "error sending request")  # then a system error's number is not about the disk
_REDIRECTED = "Received redirect without LOCATION"


def plain(error: object) -> str:
    r"""The text of an error on one line, without colours and backtraces.

    >>> plain(OSError("Generic S3 error\n   \x1b[31m↳\x1b[0m 403 Forbidden\n"))
    'Generic S3 error: 403 Forbidden'
    """
    text = _BACKTRACE.sub("", _COLOUR.sub("", str(error)))
    lines = (line.strip().removeprefix("↳").strip() for line in text.splitlines())
    return ": ".join(line for line in lines if line)


def typed_fault(error: BaseException, operation: str, key: str, place: str = "the lake") -> GroundlakeError | None:
    """The typed error that an error of delta-rs stands for; None when its text says nothing of a known cause.

    Args:
        error: What was raised.
        operation: What was tried: "commit", "open", ….
        key: On what: a unit or a table.
        place: The lake's uri, where it is known.
    """
    text = plain(error)
    if _REDIRECTED in text:
        return by_code("PermanentRedirect", operation, key, place, text)
    if found := _CODE.search(text) or _STATUS.search(text):
        return by_code(found[1], operation, key, place, text)
    if (found := _NUMBER.search(text)) and not any(words in text for words in _OF_THE_NETWORK):
        return by_number(int(found[1]), operation, key, place, text)
    return None


def lasting_fault(error: BaseException, operation: str, key: str, place: str = "the lake") -> GroundlakeError | None:
    """As ``typed_fault``, but only for what waiting and trying again does not mend; else None."""
    found = error if isinstance(error, GroundlakeError) else typed_fault(error, operation, key, place)
    return found if isinstance(found, LastingError | ConfigurationError) else None
