"""One file of a checkpoint from the web: gone on with where it broke off, hashed while it streams."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from etl import __version__
from etl.models.weights.errors import (
    InterruptedDownloadError,
    NotTheFileError,
    RefusedDownloadError,
    WrongDigestError,
    WrongSizeError,
)
from etl.models.weights.partial import Partial, Progress, check_room, feed, sha256_of
from etl.models.weights.transport import Rules, answer, shown

WAITS = (1.0, 2.0, 5.0, 15.0, 30.0)  # seconds before each further try
LONGEST_WAIT = 120.0
_LATER = (408, 425, 429, 500, 502, 503, 504)
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"groundlake/{__version__}"}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)$")


@dataclass(frozen=True)
class Wanted:
    """One file to download.

    Attributes:
        name: For messages.
        url: Where it is.
        path: Where it shall lie.
        sha256: What it must be, where that is known.
        recorded: Whether ``sha256`` was recorded at the first add; else the catalog pins it.
        bytes: Its length, where that is known.
        rules: Where the download may go.
    """

    name: str
    url: str
    path: Path
    sha256: str | None = None
    recorded: bool = False
    bytes: int | None = None
    rules: Rules = field(default_factory=Rules)


def download(wanted: Wanted, progress: Progress, pause: Callable[[float], None] = time.sleep) -> str:
    """Bring a file to its place; one that lies there already is only checked.

    Args:
        wanted: The file.
        progress: Told now and then how far it is.
        pause: Waits so many seconds between tries.

    Returns:
        Its sha256.

    Raises:
        RefusedDownloadError: The server does not give it out, or it may not be reached.
        NotTheFileError: The server answers with something else.
        WrongSizeError: It has another length than the catalog says.
        WrongDigestError: It is another file.
        InterruptedDownloadError: It broke off again and again; the next call goes on.
        NoRoomError: The disk has no room for it.
    """
    if wanted.path.is_file():
        digest = sha256_of(wanted.path, wanted.name, progress)
        if wanted.sha256 in (None, digest):
            return digest
        wanted.path.unlink()
    partial = Partial(wanted.path)
    failures, furthest = 0, partial.size()
    while True:
        try:
            digest = _attempt(wanted, partial, progress)
            break
        except InterruptedDownloadError as error:
            # Every try that got further is a new beginning: long files come over bad lines too.
            failures = 0 if partial.size() > furthest else failures + 1
            furthest = max(furthest, partial.size())
            if failures > len(WAITS):
                raise InterruptedDownloadError(
                    f"{wanted.name} broke off {failures} times without getting further: {error.message}",
                    remedy="run the command again later: what has arrived is kept and gone on with",
                ) from error
            wait = min(LONGEST_WAIT, error.wait or WAITS[max(0, failures - 1)])
            progress(f"{wanted.name}, again in {wait:.0f} s: {error.message}", partial.size(), wanted.bytes)
            pause(wait)
    _check(wanted, digest, partial)
    partial.settle()
    return digest


def remote_size(wanted: Wanted) -> int | None:
    """How long the file is by what its server says, None when it does not; raises as ``download``."""
    try:
        with answer(wanted.url, _HEADERS, wanted.rules) as response:
            return _agreed(response, wanted, 0, None)[1]
    except (InterruptedDownloadError, _AnewError):
        return None


def _attempt(wanted: Wanted, partial: Partial, progress: Progress) -> str:
    validator = partial.validator(wanted.url)
    start = partial.size() if validator else 0
    headers = dict(_HEADERS)
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    with answer(wanted.url, headers, wanted.rules) as response:
        try:
            start, total = _agreed(response, wanted, start, validator)
        except _AnewError as error:
            partial.drop()
            raise InterruptedDownloadError(f"{shown(wanted.url)}: {error}") from error
        if not start:
            partial.begin(wanted.url, _validator(response))
        if total is not None:
            check_room(wanted.path.parent, total - start, wanted.name)
        digest, size = _stream(response, wanted, partial, progress, total)
    if total is not None and size != total:
        raise InterruptedDownloadError(f"{shown(wanted.url)}: {size:,} of {total:,} bytes have arrived")
    return digest


def _stream(
    response: httpx.Response, wanted: Wanted, partial: Partial, progress: Progress, total: int | None
) -> tuple[str, int]:
    """Append the body; gives sha256 and length of all that has arrived."""
    digest, size = hashlib.sha256(), partial.size()
    if size:
        feed(digest.update, partial.data, wanted.name, progress)
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return digest.hexdigest(), size  # all of it had arrived before
    with partial.data.open("ab", buffering=0) as file:
        for block in response.iter_raw():  # as it comes: a fixed size would lose what waits for the rest of a block
            partial.write(file, block)
            digest.update(block)
            size += len(block)
            progress(wanted.name, size, total)
    return digest.hexdigest(), size


class _AnewError(Exception):
    """What has arrived does not fit what the server has now."""


def _agreed(response: httpx.Response, wanted: Wanted, start: int, validator: str | None) -> tuple[int, int | None]:
    """From where the body goes on, and the length of the whole file where the server says it."""
    _check_status(response, wanted)
    total: int | None = None
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        found = _RANGE.match(response.headers.get("content-range", ""))
        if not found or int(found[1]) != start or _validator(response) not in (validator, None):
            raise _AnewError("the file changed meanwhile, or the server sent another part of it")
        total = int(found[2])
    elif response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        if response.headers.get("content-range") != f"bytes */{start}":
            raise _AnewError("the file is shorter than what has arrived of it")
        total = start
    else:
        start, length = 0, response.headers.get("content-length", "")
        total = int(length) if length.isdecimal() else None
    if wanted.bytes is not None and total is not None and total != wanted.bytes:
        raise WrongSizeError(shown(wanted.url), total, wanted.bytes, remedy=_OTHER)
    return start, total if total is not None else wanted.bytes


_BY_HAND = "fetch the file in a browser or ask its authors, then run 'groundlake models add'"
_OTHER = (
    "the publisher has replaced it, or the url is wrong: correct the catalog, or 'groundlake models add' the right one"
)


def _check_status(response: httpx.Response, wanted: Wanted) -> None:
    status, place = response.status_code, shown(wanted.url)
    if status in _LATER:
        seconds = response.headers.get("retry-after", "")
        raise InterruptedDownloadError(
            f"{place}: the server answers {status}", wait=float(seconds) if seconds.isdecimal() else None
        )
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise RefusedDownloadError(f"{place}: the server refuses it ({status}) without a login", remedy=_BY_HAND)
    if status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        raise RefusedDownloadError(
            f"{place}: there is no such file ({status})", remedy=f"correct its url in the catalog; or {_BY_HAND}"
        )
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return
    if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        raise RefusedDownloadError(f"{place}: the server answers {status}", remedy=_BY_HAND)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise NotTheFileError(f"{place}: the server sends a web page in place of {wanted.name}", remedy=_BY_HAND)
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise NotTheFileError(f"{place}: the server sends {wanted.name} compressed, unasked", remedy=_BY_HAND)


def _validator(response: httpx.Response) -> str | None:
    """What tells this version of the file from another; a weak tag does not."""
    tag: str = response.headers.get("etag", "")
    changed: str | None = response.headers.get("last-modified")
    return tag if tag.startswith('"') else changed


def _check(wanted: Wanted, digest: str, partial: Partial) -> None:
    """What has arrived is what was wanted; else it is forgotten."""
    size = partial.size()
    if wanted.bytes is not None and size != wanted.bytes:
        partial.drop()
        raise WrongSizeError(wanted.name, size, wanted.bytes, remedy=_OTHER)
    if wanted.sha256 is not None and digest != wanted.sha256:
        partial.drop()
        raise WrongDigestError(wanted.name, digest, wanted.sha256, recorded=wanted.recorded, remedy=_OTHER)
