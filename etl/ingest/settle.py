"""From what img2dataset left to rows: exactly one ``downloads`` row per url, and pictures that were proven to decode.

The tar is kept as img2dataset wrote it, rejected members included: offsets stay those of the verified file, and what
was refused today can be looked at tomorrow. Only a picture that was taken down is not kept: its bytes are zeroed.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from etl.errors import RetryableError
from etl.ingest.download import Fetched
from etl.ingest.failures import TAKEN_DOWN
from etl.ingest.picture import Picture, Rejected, inspect
from etl.ingest.shards import Shard
from etl.lake import Snapshot
from etl.lake.ids import digest_bytes, url_digest
from etl.lake.schemas import TABLES

_BATCH = 16  # pictures in memory at once


@dataclass(frozen=True)
class Tombstones:
    """What may never be stored again: digests of urls, sha256 of bytes as downloaded, image ids."""

    urls: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()

    @classmethod
    def read(cls, snapshot: Snapshot) -> Tombstones:
        """All tombstones of the lake."""
        with snapshot.connect() as connection:
            rows = connection.sql("select kind, value from takedowns").fetchall()
            images = connection.sql("select image_id from taken_down").fetchall()
        by_kind = {kind: frozenset(v for k, v in rows if k == kind) for kind in ("url_sha256", "source_sha256")}
        return cls(by_kind["url_sha256"], by_kind["source_sha256"], frozenset(row[0] for row in images))


@dataclass(frozen=True)
class Fate:
    """What became of one listed url; ``picture``, ``image_id`` and the place in the tar when it is ok."""

    url: str
    caption: str | None
    fetched: Fetched
    picture: Picture | None = None
    image_id: str | None = None
    offset: int = 0
    length: int = 0


def failed(url: str, caption: str | None, error_class: str, error: str) -> Fate:
    """The fate of a url that was never fetched."""
    return Fate(url, caption, Fetched(None, None, error_class, error, None, None))


def judge(fates: Sequence[Fate], tar: Path, shard: Shard, tombstones: Tombstones, threads: int) -> list[Fate]:
    """Verify, decode and describe every fetched member; zero in the tar what was taken down.

    Args:
        fates: What the download says.
        tar: The tar img2dataset wrote; changed where a picture was taken down.
        shard: Gives the limits of a picture.
        tombstones: What may not be stored.
        threads: Pictures decoded at once.

    Raises:
        RetryableError: The tar lacks a member, or its bytes are not those that were received.
    """
    judged: list[Fate] = []
    with tar.open("r+b") as file, ThreadPoolExecutor(threads) as pool:
        members = _members(file)
        for start in range(0, len(fates), _BATCH):
            batch = list(_read(fates[start : start + _BATCH], file, members))
            judged += pool.map(lambda one: _judge(one[0], one[1], shard, tombstones), batch)
        for fate in judged:
            if fate.fetched.error_class == TAKEN_DOWN and fate.length:
                file.seek(fate.offset)
                file.write(bytes(fate.length))
    return judged


def _members(file: BinaryIO) -> dict[str, tuple[int, int]]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            return {member.name: (member.offset_data, member.size) for member in tar}
    except tarfile.TarError as error:
        raise RetryableError(f"img2dataset wrote a broken tar: {error}", remedy="check the scratch disk") from error


def _read(
    fates: Sequence[Fate], file: BinaryIO, members: Mapping[str, tuple[int, int]]
) -> Iterator[tuple[Fate, bytes | None]]:
    for fate in fates:
        name = fate.fetched.member
        if name is None:
            yield fate, None
            continue
        if name not in members:
            raise RetryableError(f"the tar lacks {name} of {fate.url}", remedy="check the scratch disk, run it again")
        offset, length = members[name]
        file.seek(offset)
        data = file.read(length)
        if hashlib.sha256(data).hexdigest() != fate.fetched.sha256:
            raise RetryableError(f"{name} in the tar is not what was received", remedy="check the scratch disk")
        yield replace(fate, offset=offset, length=length), data


def _judge(fate: Fate, data: bytes | None, shard: Shard, tombstones: Tombstones) -> Fate:
    if data is None:
        return fate
    image_id = digest_bytes(data)
    found: Picture | Rejected
    if image_id in tombstones.images or fate.fetched.sha256 in tombstones.sources:
        found = Rejected(TAKEN_DOWN, "the picture was taken down")
    else:
        found = inspect(data, shard.settings)
    if isinstance(found, Rejected):
        return replace(fate, fetched=replace(fate.fetched, error_class=found.error_class, error=found.error))
    return replace(fate, picture=found, image_id=image_id)


def to_tables(fates: Sequence[Fate], shard: Shard, tar_key: str | None) -> dict[str, pa.Table]:
    """The rows of ``downloads``, ``images`` and ``sightings``."""
    now = datetime.now(UTC)
    ok = [fate for fate in fates if fate.picture is not None]
    rows = {
        "downloads": [_download_row(fate, shard, now) for fate in fates],
        "images": [_image_row(fate, fate.picture, shard, tar_key, now) for fate in ok if fate.picture],
        "sightings": [_sighting_row(fate, fate.picture, shard) for fate in ok if fate.picture],
    }
    return {name: pa.Table.from_pylist(content, schema=TABLES[name].schema) for name, content in rows.items()}


def count(fates: Sequence[Fate]) -> dict[str, int]:
    """Urls of a unit by ok and error class, for its slice record."""
    return dict(Counter(fate.fetched.error_class or "ok" for fate in fates))


def _download_row(fate: Fate, shard: Shard, now: datetime) -> dict[str, Any]:
    fetched = fate.fetched
    return {
        "url": fate.url,
        "url_sha256": url_digest(fate.url),
        "shard_id": shard.ref.shard_id,
        "attempt": shard.ref.attempt,
        "unit": shard.ref.unit,
        "status": "ok" if fate.picture else "failed",
        "error_class": fetched.error_class,
        "error": fetched.error,
        "http_status": fetched.http_status,
        "bytes": fetched.received,
        "image_id": fate.image_id,
        "tried_at": now,
    }


def _image_row(fate: Fate, picture: Picture, shard: Shard, tar_key: str | None, now: datetime) -> dict[str, Any]:
    return {
        "image_id": fate.image_id,
        "shard_id": shard.ref.shard_id,
        "attempt": shard.ref.attempt,
        "unit": shard.ref.unit,
        "tar": tar_key,
        "offset": fate.offset,
        "length": fate.length,
        "width": picture.width,
        "height": picture.height,
        "orientation": picture.orientation,
        "format": picture.format,
        "phash": picture.phash,
        "ingested_at": now,
    }


def _sighting_row(fate: Fate, picture: Picture, shard: Shard) -> dict[str, Any]:
    return {
        "image_id": fate.image_id,
        "shard_id": shard.ref.shard_id,
        "unit": shard.ref.unit,
        "url": fate.url,
        "source": shard.ref.source,
        "caption": fate.caption,
        "source_sha256": fate.fetched.sha256,
        "original_id": None,
        "split": None,
        "licence": shard.licence,
        "original_width": picture.width,
        "original_height": picture.height,
    }
