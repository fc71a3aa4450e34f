"""Content-made identifiers: the first 32 hex digits of a sha256."""

from __future__ import annotations

import hashlib
import json
from typing import Any

LENGTH = 32


def digest(*parts: Any) -> str:
    """The id of a tuple of JSON values: equal values give equal ids, on any machine and in any process.

    >>> digest("tag", 1) == digest("tag", 1), digest("a", "b") == digest("ab")
    (True, False)
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return digest_bytes(text.encode())


def digest_bytes(data: bytes) -> str:
    """The id of encoded bytes, such as a picture as stored."""
    return hashlib.sha256(data).hexdigest()[:LENGTH]


def url_digest(url: str) -> str:
    """The id of a url; the same as ``digest_bytes`` of its UTF-8 form."""
    return digest_bytes(url.encode())
