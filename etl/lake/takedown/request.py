"""What a takedown asks for: pictures by url, by image id or by the sha256 of their bytes; singly or as a list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from etl.errors import DataError
from etl.lake.ids import LENGTH, digest, url_digest

URL, IMAGE_ID, SHA256 = "url", "image_id", "sha256"
KINDS = (URL, IMAGE_ID, SHA256)
_HEX = {IMAGE_ID: re.compile(rf"[0-9a-f]{{{LENGTH}}}"), SHA256: re.compile(r"[0-9a-f]{64}")}
_EXPECTED = {
    URL: "a http or https url",
    IMAGE_ID: f"{LENGTH} hex digits",
    SHA256: "64 hex digits, of the bytes as downloaded or as stored",
}


class TargetError(DataError):
    """What is to be taken down is not a url, an image id or a sha256."""


@dataclass(frozen=True, order=True)
class Tombstone:
    """A row of ``takedowns``: kind ``image_id``, ``url_sha256`` or ``source_sha256``, and the id or digest."""

    kind: str
    value: str


@dataclass(frozen=True, order=True)
class Target:
    """One thing to take down: its kind (``url``, ``image_id`` or ``sha256``) and the value as it was given."""

    kind: str
    value: str

    @property
    def tombstones(self) -> tuple[Tombstone, ...]:
        """What keeps it out from now on. A sha256 may be that of the bytes as downloaded, as stored, or both."""
        if self.kind == URL:
            return (Tombstone("url_sha256", url_digest(self.value)),)
        if self.kind == IMAGE_ID:
            return (Tombstone("image_id", self.value),)
        return Tombstone("image_id", self.value[:LENGTH]), Tombstone("source_sha256", self.value)


@dataclass(frozen=True)
class Request:
    """A takedown as it was asked for; make one with ``Request.of``.

    Attributes:
        targets: What to take down, each once, sorted.
        reason: Why.
    """

    targets: tuple[Target, ...]
    reason: str

    @classmethod
    def of(cls, targets: Iterable[Target], reason: str) -> Request:
        """The request for some targets, in whatever order and however often each is given.

        Raises:
            TargetError: There is none, or no reason.
        """
        distinct = tuple(sorted(set(targets)))
        if not distinct:
            raise TargetError("nothing to take down was given", remedy="give --url, --image-id, --sha256 or --list")
        if not reason.strip():
            raise TargetError("a takedown needs a reason", remedy="say why with --reason: it is kept for audits")
        return cls(distinct, reason.strip())

    @property
    def takedown_id(self) -> str:
        """Digest of what was asked and why: the same request, asked again, is the same takedown."""
        return digest("takedown", self.reason, [[target.kind, target.value] for target in self.targets])

    @property
    def tombstones(self) -> frozenset[Tombstone]:
        """The tombstones of all targets."""
        return frozenset(stone for target in self.targets for stone in target.tombstones)


def target(kind: str, text: str) -> Target:
    """A target of a known kind.

    >>> target("image_id", " 00FF" + "0" * 28)
    Target(kind='image_id', value='00ff0000000000000000000000000000')

    Raises:
        TargetError: The text is not of that kind.
    """
    text = text.strip()
    value = text if kind == URL else text.lower()
    if not (_is_url(value) if kind == URL else _HEX[kind].fullmatch(value)):
        raise TargetError(f"{text!r} is no {kind}", remedy=f"expected {_EXPECTED[kind]}")
    return Target(kind, value)


def read_targets(path: Path) -> list[Target]:
    """The targets of a text file: one a line, its kind detected or named before a comma (``url,https://…``).

    Blank lines, and those that begin with ``#``, are skipped.

    Raises:
        TargetError: The file cannot be read, or a line is nonsense; the message names it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise TargetError(
            f"the list {path} cannot be read: {error}", remedy="give a text file, one per line"
        ) from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(_detected(line.strip()))
            except TargetError as error:
                raise TargetError(f"{path}, line {number}: {error.message}", remedy=error.remedy) from error
    return found


def _detected(line: str) -> Target:
    kind, comma, value = line.partition(",")
    if comma and (kind := kind.strip().lower().replace("-", "_")) in KINDS:
        return target(kind, value)
    for kind, pattern in _HEX.items():
        if pattern.fullmatch(line.lower()):
            return target(kind, line)
    if _is_url(line):
        return target(URL, line)
    expected = "; ".join(f"{kind}: {_EXPECTED[kind]}" for kind in KINDS)
    raise TargetError(f"{line[:200]!r} is no picture to take down", remedy=f"expected one of {expected}")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return False
    return parts.scheme.lower() in ("http", "https") and bool(host) and text.isprintable() and " " not in text
