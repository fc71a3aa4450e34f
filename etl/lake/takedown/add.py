"""Asking for a takedown: what it would do, and the tombstones that hide everything at once."""

from __future__ import annotations

import getpass
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from etl.lake.lake import Lake
from etl.lake.parts import data_paths
from etl.lake.takedown import manifests
from etl.lake.takedown.purge import TABLES_CUT
from etl.lake.takedown.request import Request, Target
from etl.lake.takedown.resolve import Found, resolve
from etl.lake.takedown.scan import Scan, on_disk
from etl.lake.takedown.texts import unshared_texts
from etl.lake.takedown.tombstones import REQUESTED, note, write_tombstones


@dataclass(frozen=True)
class Added:
    """What a request found.

    Attributes:
        takedown_id: Its id.
        images: Images it names, those found for urls and bytes among them.
        copies: Stored copies of them.
        bytes: Bytes of the copies.
        unknown: Targets of which the lake holds nothing; they are kept out from now on.
    """

    takedown_id: str
    images: int
    copies: int
    bytes: int
    unknown: tuple[Target, ...]


@dataclass(frozen=True)
class TableEffect:
    """What a takedown would do to a table: rows that go, present and older files that are written again."""

    table: str
    rows: int
    files: int
    older_files: int


@dataclass(frozen=True)
class Survey:
    """What a takedown would do; nothing was changed.

    Attributes:
        found: What the request names.
        tables: The effect per table; untouched ones are absent.
        tars: Bytes to overwrite, by tar.
        manifests: Built manifest versions that hold its pictures.
    """

    found: Added
    tables: tuple[TableEffect, ...]
    tars: Mapping[str, int]
    manifests: tuple[manifests.Holder, ...]


def survey(lake: Lake, request: Request) -> Survey:
    """What a takedown would do, as the lake is now; changes nothing.

    Raises:
        RetryableError: The store or the search failed.
    """
    with Scan.open(lake) as scan:
        found = resolve(scan, {request.takedown_id: request.tombstones})
        texts = unshared_texts(scan, found, {})
        wanted = dict.fromkeys(TABLES_CUT, ("image_id", found.images)) | {"embeddings": ("text_sha256", set(texts))}
        effects = [_effect(scan, name, column, values) for name, (column, values) in wanted.items()]
    tars: Counter[str] = Counter()
    for copy in found.copies:
        tars[copy.tar] += copy.length
    return Survey(
        _added(request, found),
        tuple(effect for effect in effects if effect.files or effect.older_files),
        dict(sorted(tars.items())),
        tuple(manifests.holders(lake, found.images)),
    )


def add(lake: Lake, request: Request) -> Added:
    """Write the tombstones of a request: from then on no view, manifest or download shows what it names.

    Rows and bytes go with the next ``purge``. The same request, made again, adds nothing.

    Raises:
        RetryableError: The store or the search failed; nothing was written, or everything but the event.
    """
    key = request.takedown_id
    with Scan.open(lake) as scan:
        found = resolve(scan, {key: request.tombstones})
    # One commit: nobody ever sees half of a request.
    write_tombstones(lake, key, request.reason, set(found.owners), key)
    added = _added(request, found)
    asked = Counter(target.kind for target in request.targets)
    counts = {"images": added.images, "copies": added.copies, "bytes": added.bytes, "unknown": len(added.unknown)}
    note(lake, key, REQUESTED, {"reason": request.reason, "who": _who(), "asked": dict(asked), **counts})
    return added


def _added(request: Request, found: Found) -> Added:
    stored = {copy.image_id for copy in found.copies}
    known = stored | found.seen
    unknown = tuple(target for target in request.targets if not _is_known(target, found, known))
    size = sum(copy.length for copy in found.copies)
    return Added(request.takedown_id, len(known), len(found.copies), size, unknown)


def _is_known(target: Target, found: Found, images: set[str]) -> bool:
    return any(stone.value in images or stone.value in found.brought for stone in target.tombstones)


def _effect(scan: Scan, name: str, column: str, values: set[str]) -> TableEffect:
    present = set(data_paths(scan.lake.table(name)))
    hits = scan.hits(name, on_disk(scan.lake, name), column, values, None)
    rows = sum(hit.rows for path, hit in hits.items() if path in present)
    files = sum(path in present for path in hits)
    return TableEffect(name, rows, files, len(hits) - files)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
