"""Shards: what the lake records of a list of urls that is downloaded as one."""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import UnknownNameError
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.settings.catalog import Download

URLS = pa.schema([pa.field("url", pa.string(), nullable=False), pa.field("caption", pa.string())])


@dataclass(frozen=True)
class ShardRef:
    """Names one attempt to download one shard."""

    source: str
    shard_id: str
    attempt: int

    @property
    def unit(self) -> str:
        """Key of its work order, and app id of its commits."""
        return digest("ingest", self.shard_id, self.attempt)


@dataclass(frozen=True)
class Shard:
    """A row of ``shards``, and the licence its source has now: all a download needs."""

    ref: ShardRef
    urls_key: str
    n_urls: int
    settings: Download
    licence: str | None


def shard_id(source: str, settings: Download, urls: Sequence[str]) -> str:
    """The id of a list of urls: the same for the same urls and settings, in whatever order."""
    return digest(source, digest(settings.model_dump(mode="json")), sorted(urls))


def urls_key(source: str, shard: str) -> str:
    """Where to put the urls of a shard; another place each time.

    A list is written before the row that names it. One that an earlier plan left without a row may be swept at any
    time, so nobody takes it over.
    """
    return f"urls/{source}/{shard}-{uuid.uuid4().hex[:12]}.parquet"


def write_urls(lake: Lake, key: str, rows: pa.Table) -> None:
    """Store the urls and captions of a shard."""
    buffer = io.BytesIO()
    pq.write_table(rows.cast(URLS), buffer, compression="zstd")
    lake.store.put_if_absent(key, buffer.getvalue())


def read_urls(lake: Lake, key: str) -> pa.Table:
    """Columns ``url`` and ``caption`` of a shard; raises NotFoundError."""
    return pq.read_table(io.BytesIO(lake.store.read(key)))


def find_shard(snapshot: Snapshot, shard: str, attempt: int | None = None) -> Shard:
    """The shard of an id or of its unique beginning; the latest attempt by default.

    Raises:
        UnknownNameError: There is none, or more than one.
    """
    query = """
        select s.shard_id, s.attempt, s.source, s.urls, s.n_urls, s.download, sources.licence
        from shards s left join sources on sources.name = s.source
        where starts_with(s.shard_id, ?) and (?::int is null or s.attempt = ?)
        qualify s.attempt = max(s.attempt) over (partition by s.shard_id)"""
    with snapshot.connect() as connection:
        rows: list[dict[str, Any]] = connection.execute(query, [shard, attempt, attempt]).to_arrow_table().to_pylist()
        known = connection.sql("select distinct shard_id from shards order by planned_at desc limit 20").fetchall()
    if len(rows) != 1:
        name = f"{shard} (attempt {attempt})" if attempt else shard
        matches = [row["shard_id"] for row in rows] or [row[0] for row in known]
        kind = "shard (ambiguous)" if rows else "shard"
        raise UnknownNameError(kind, name, matches, remedy="plan it first: 'groundlake ingest plan --source NAME'")
    row = rows[0]
    return Shard(
        ref=ShardRef(row["source"], row["shard_id"], row["attempt"]),
        urls_key=row["urls"],
        n_urls=row["n_urls"],
        settings=Download.model_validate_json(row["download"]),
        licence=row["licence"],
    )


def open_shards(snapshot: Snapshot, source: str) -> list[tuple[Shard, str]]:
    """Planned attempts of a source that can still be settled, and the request of each, in planning order.

    One that was fenced, after days without progress, is not among them: its urls are free for another attempt.
    """
    query = """
        select distinct s.planned_at, s.shard_id, s.attempt, s.urls, s.n_urls, s.download, s.request from shards s
        anti join raw.downloads d on d.shard_id = s.shard_id and d.attempt = s.attempt
        where s.source = ? order by all"""
    with snapshot.connect() as connection:
        rows = connection.execute(query, [source]).to_arrow_table().to_pylist()
    # As the snapshot shows it: of one that was settled since, the urls are in no `downloads` row here, nor free.
    downloads = snapshot.lake.table("downloads", snapshot.versions["downloads"]) if rows else None
    found = []
    for row in rows:
        ref = ShardRef(source, row["shard_id"], row["attempt"])
        if downloads is not None and downloads.transaction_version(ref.unit) is None:
            settings = Download.model_validate_json(row["download"])
            found.append((Shard(ref, row["urls"], row["n_urls"], settings, None), row["request"]))
    return found


def last_attempts(snapshot: Snapshot, shards: Sequence[str]) -> dict[str, int]:
    """The highest attempt of those of some shards that were planned before, settled or not."""
    with snapshot.connect() as connection:
        rows = connection.execute(
            "select shard_id, max(attempt) from shards where shard_id in (select unnest(?::varchar[])) group by all",
            [list(shards)],
        ).fetchall()
    return dict(rows)
