"""From a source's list to shards: content-addressed, idempotent, and only over urls that nobody has settled.

Urls are cut into shards in the order of their digests: the same urls give the same shards in whatever order a list
has them, urls that are added make new shards and move none, and one host's urls do not hit that host all at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from etl.errors import ConfigurationError
from etl.ingest.failures import BLOCKED, is_retryable
from etl.ingest.lists import UrlList, read_list
from etl.ingest.shards import URLS, ShardRef, find_shard, open_shards, read_urls, shard_id, urls_key, write_urls
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.settings import Source
from etl.settings.catalog import Download

__all__ = ["IngestPlan", "ShardRef", "make_plan", "plan_ingest", "plan_shards"]


@dataclass(frozen=True)
class IngestPlan:
    """What a request downloads, fixed by whoever asks first.

    Attributes:
        source: The source.
        request: Airflow run id, or an id made by the command line.
        refs: Shards to download: open ones of earlier requests, then new ones.
        listed: Distinct urls of the list.
        list_duplicates: Rows of the list dropped because their url came earlier.
        planned: Urls that this request planned anew.
    """

    source: str
    request: str
    refs: tuple[ShardRef, ...]
    listed: int
    list_duplicates: int
    planned: int


def plan_ingest(lake: Lake, source: Source, request: str, *, retry_failed: bool = False) -> list[ShardRef]:
    """The shards the request called ``request`` downloads; see ``make_plan``."""
    return list(make_plan(lake, source, request, retry_failed=retry_failed).refs)


def plan_shards(lake: Lake, shards: Sequence[str], request: str) -> list[ShardRef]:
    """Shards a person named: one that is open as it is, one that is settled as a new attempt over all of its urls.

    The pictures of an earlier attempt stay the canonical copies; bytes that changed since are new pictures.

    Args:
        lake: The lake.
        shards: Ids, or unique beginnings of ids.
        request: Airflow run id, or an id made by the command line; asked again, it gives the same attempts.

    Raises:
        UnknownNameError: A shard is unknown, or its beginning fits more than one.
    """
    place = f"units/requests/{digest('ingest shards', request)}.json"
    if lake.store.stat(place) is None:
        snapshot = Snapshot.take(lake)
        latest = {shard.ref: shard for shard in (find_shard(snapshot, name) for name in shards)}
        still_open = {ref for source in {ref.source for ref in latest} for ref, _ in open_shards(snapshot, source)}
        refs = [ref if ref in still_open else replace(ref, attempt=ref.attempt + 1) for ref in latest]
        lake.store.put_if_absent(place, json.dumps({"refs": [asdict(ref) for ref in refs]}).encode())
    refs = [ShardRef(**ref) for ref in lake.store.read_json(place)["refs"]]
    snapshot = Snapshot.take(lake)
    for ref in refs:
        shard = find_shard(snapshot, ref.shard_id)
        if shard.ref.attempt < ref.attempt:
            _record(lake, ref, shard.urls_key, shard.n_urls, shard.settings, request)
    return refs


def make_plan(lake: Lake, source: Source, request: str, *, retry_failed: bool = False) -> IngestPlan:
    """The plan of a request for a source: the one that exists, else a new one.

    Args:
        lake: The lake.
        source: Where the urls are listed and how they are fetched.
        request: Airflow run id, or an id made by the command line.
        retry_failed: Also plan urls whose last try failed for a passing reason (time-out, DNS, 429, 5xx), and those
            that were blocked if private addresses are allowed now.

    Raises:
        DataError: The list cannot be read or holds no urls.
        ConfigurationError: The list lies where groundlake cannot read.
    """
    place = f"units/requests/{digest('ingest', source.name, request)}.json"
    if lake.store.stat(place) is None:
        found = read_list(_local(source), source.url_column, source.caption_column)
        _register(lake, source, found)
        snapshot = Snapshot.take(lake)
        old = open_shards(snapshot, source.name)
        fresh = _unsettled(lake, snapshot, source, found, [urls for _, urls in old], retry_failed=retry_failed)
        new = _plan_shards(lake, source, request, fresh)
        plan = IngestPlan(
            source=source.name,
            request=request,
            refs=(*(ref for ref, _ in old), *new),
            listed=found.rows.num_rows,
            list_duplicates=found.duplicates,
            planned=fresh.num_rows,
        )
        lake.store.put_if_absent(place, json.dumps(asdict(plan)).encode())
    content = lake.store.read_json(place)
    return IngestPlan(**{**content, "refs": tuple(ShardRef(**ref) for ref in content["refs"])})


def _local(source: Source) -> Path:
    uri = source.uri.removeprefix("file://")
    if "://" in uri:
        raise ConfigurationError(
            f"source {source.name!r}: the list {source.uri} is not a local file",
            remedy="copy the list to a disk that this process reads, and name that path",
        )
    return Path(uri)


def _register(lake: Lake, source: Source, found: UrlList) -> None:
    """Record this content of the list once."""
    sha = hashlib.sha256()
    for batch in found.rows.combine_chunks().to_batches(max_chunksize=65_536):
        sha.update(json.dumps(batch.to_pydict()).encode())
    content = digest(sha.hexdigest(), source.licence, source.uri)
    row = {
        "name": source.name,
        "kind": source.kind,
        "uri": source.uri,
        "digest": content,
        "n_urls": found.rows.num_rows,
        "licence": source.licence,
        "seen_at": datetime.now(UTC),
    }
    lake.append("sources", [row], digest("source", source.name, content))


def _unsettled(
    lake: Lake, snapshot: Snapshot, source: Source, found: UrlList, opened: Sequence[str], *, retry_failed: bool
) -> pa.Table:
    """Listed urls that were never settled and are in no open shard.

    Returns:
        Columns url, caption, and attempt: one more than that of the last try of the url.
    """
    waiting = pa.concat_tables([URLS.empty_table(), *(read_urls(lake, key) for key in opened)])
    query = """
        with last as (
            select d.url_sha256, d.error_class, d.attempt
            from raw.downloads d join raw.shards s using (shard_id, attempt) where s.source = ?
            qualify row_number() over (
                partition by d.url_sha256 order by (d.status = 'failed'), d.attempt desc, s.planned_at desc) = 1)
        select l.url, l.caption, coalesce(last.attempt, 0) + 1 as attempt, last.url_sha256, last.error_class
        from listed l left join last on last.url_sha256 = left(sha256(l.url), 32)
        where l.url not in (select url from waiting) and (last.url_sha256 is null or ?)
        order by left(sha256(l.url), 32)"""
    with snapshot.connect() as connection:
        connection.register("listed", found.rows)
        connection.register("waiting", waiting)
        rows: pa.Table = connection.execute(query, [source.name, retry_failed]).to_arrow_table()
    passing = BLOCKED if source.download.allow_private_addresses else None
    again = [c is not None and (is_retryable(c) or c == passing) for c in rows["error_class"].to_pylist()]
    never = [sha is None for sha in rows["url_sha256"].to_pylist()]
    wanted = pa.array([a or b for a, b in zip(again, never, strict=True)], pa.bool_())
    return rows.filter(wanted).select(["url", "caption", "attempt"])


def _plan_shards(lake: Lake, source: Source, request: str, fresh: pa.Table) -> list[ShardRef]:
    return [
        _plan_shard(lake, source, request, fresh.slice(start, source.shard_size))
        for start in range(0, fresh.num_rows, source.shard_size)
    ]


def _plan_shard(lake: Lake, source: Source, request: str, rows: pa.Table) -> ShardRef:
    """Write the urls, then the row that names them; a replay adds nothing."""
    shard = shard_id(source.name, source.download, rows["url"].to_pylist())
    ref = ShardRef(source.name, shard, max(rows["attempt"].to_pylist()))
    key = urls_key(source.name, shard)
    write_urls(lake, key, rows.select(["url", "caption"]))
    _record(lake, ref, key, rows.num_rows, source.download, request)
    return ref


def _record(lake: Lake, ref: ShardRef, key: str, n_urls: int, settings: Download, request: str) -> None:
    row: dict[str, Any] = {
        "shard_id": ref.shard_id,
        "source": ref.source,
        "attempt": ref.attempt,
        "urls": key,
        "n_urls": n_urls,
        "download": settings.model_dump_json(),
        "planned_at": datetime.now(UTC),
        "request": request,
    }
    lake.append("shards", [row], digest("shard", ref.shard_id, ref.attempt))
