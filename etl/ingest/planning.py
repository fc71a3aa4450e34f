"""From a source's list to shards: content-addressed, idempotent, and only over urls that nobody has settled.

Urls are cut into shards in the order of their digests: the same urls give the same shards in whatever order a list
has them, urls that are added make new shards and move none, and one host's urls do not hit that host all at once.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from etl.errors import ConfigurationError, DataError
from etl.ingest.failures import BLOCKED, is_retryable
from etl.ingest.lists import UrlList, read_list
from etl.ingest.shards import (
    Shard,
    ShardRef,
    find_shard,
    last_attempts,
    open_shards,
    read_urls,
    shard_id,
    urls_key,
    write_urls,
)
from etl.lake import Lake, Snapshot
from etl.lake.guard import Patience, append_guarded
from etl.lake.ids import digest
from etl.lake.parts import add_action, write_part
from etl.lake.schemas import TABLES
from etl.settings import Source

if TYPE_CHECKING:
    import duckdb

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
        DataError: Urls of a settled one are in another shard that is open.
        CommitTimeoutError: Other plans were faster until the deadline.
    """
    place = f"units/requests/{digest('ingest shards', request)}.json"
    if lake.store.stat(place) is None:
        refs = _replanned(lake, lambda snapshot: _name_shards(lake, snapshot, shards, request))
        lake.store.put_if_absent(place, json.dumps({"refs": [asdict(ref) for ref in refs]}).encode())
    return [ShardRef(**ref) for ref in lake.store.read_json(place)["refs"]]


def make_plan(lake: Lake, source: Source, request: str, *, retry_failed: bool = False) -> IngestPlan:
    """The plan of a request for a source: the one that exists, else a new one.

    The rows of all new shards enter the lake by one commit, made on what the table ``shards`` was before anything was
    looked up, and only if no other plan of the source came between: so of two plans at once, also over two versions of
    a list, one sees the shards of the other as open. Killed before its record is written, the next try finds its own
    shards open and takes them.

    Args:
        lake: The lake.
        source: Where the urls are listed and how they are fetched.
        request: Airflow run id, or an id made by the command line.
        retry_failed: Also plan urls whose last try failed for a passing reason (time-out, DNS, 429, 5xx), and those
            that were blocked if private addresses are allowed now.

    Raises:
        DataError: The list cannot be read or holds no urls.
        ConfigurationError: The list lies where groundlake cannot read.
        CommitTimeoutError: Other plans were faster until the deadline.
    """
    place = f"units/requests/{digest('ingest', source.name, request)}.json"
    if lake.store.stat(place) is None:
        found = read_list(_local(source), source.url_column, source.caption_column)
        _register(lake, source, found)
        plan = _replanned(lake, lambda snapshot: _plan(lake, snapshot, source, found, request, retry_failed))
        lake.store.put_if_absent(place, json.dumps(asdict(plan)).encode())
    content = lake.store.read_json(place)
    return IngestPlan(**{**content, "refs": tuple(ShardRef(**ref) for ref in content["refs"])})


PlanT = TypeVar("PlanT")


def _replanned(lake: Lake, plan: Callable[[Snapshot], tuple[PlanT, list[dict[str, Any]]]]) -> PlanT:
    """Plan on a fresh look at the lake until the rows of its new shards are in it, with no other plan in between.

    Args:
        lake: The lake.
        plan: Gives what it plans, and the new rows of table ``shards``.
    """
    patience, key = Patience("a plan of shards", lake.settings.commit_deadline), uuid.uuid4().hex
    while True:
        table = lake.table("shards")  # before the snapshot: what that does not show makes the commit fail
        planned, rows = plan(Snapshot.take(lake))
        if not rows:
            return planned
        part = write_part(lake.store, "shards", pa.Table.from_pylist(rows, TABLES["shards"].schema), key, "00000")
        guards = sorted({f"plan-{digest('source', row['source'])}" for row in rows})
        if append_guarded(lake, "shards", table, [add_action(lake.store, part)], guards=guards, key=key):
            return planned
        patience.wait()
        key = uuid.uuid4().hex  # a slow store may still take the refused rows: they are another plan's then


def _name_shards(
    lake: Lake, snapshot: Snapshot, names: Sequence[str], request: str
) -> tuple[list[ShardRef], list[dict[str, Any]]]:
    latest = {shard.ref: shard for shard in (find_shard(snapshot, name) for name in names)}
    opened = [shard for source in sorted({r.source for r in latest}) for shard, _ in open_shards(snapshot, source)]
    still_open = {shard.ref for shard in opened}
    again = [replace(s, ref=replace(r, attempt=r.attempt + 1)) for r, s in latest.items() if r not in still_open]
    _refuse_shared(lake, again, opened)
    refs = [ref if ref in still_open else replace(ref, attempt=ref.attempt + 1) for ref in latest]
    return refs, [_row(shard, request) for shard in again]


def _refuse_shared(lake: Lake, again: Sequence[Shard], opened: Sequence[Shard]) -> None:
    """No url may be in two open shards: it would be fetched twice at once."""
    for number, shard in enumerate(again):
        own = set(read_urls(lake, shard.urls_key)["url"].to_pylist())
        for other in (*opened, *again[:number]):
            shared = own.intersection(read_urls(lake, other.urls_key)["url"].to_pylist())
            if other.ref.source == shard.ref.source and shared:
                raise DataError(
                    f"{len(shared)} urls of shard {shard.ref.shard_id} are in shard {other.ref.shard_id} too, "
                    f"which is open (attempt {other.ref.attempt}), such as {min(shared)}",
                    remedy=f"settle that one first: groundlake ingest shard --shard {other.ref.shard_id}",
                )


def _plan(
    lake: Lake, snapshot: Snapshot, source: Source, found: UrlList, request: str, retry_failed: bool
) -> tuple[IngestPlan, list[dict[str, Any]]]:
    old = open_shards(snapshot, source.name)
    opened = [shard.urls_key for shard, _ in old]
    with snapshot.connect() as connection:
        _find_unsettled(lake, connection, source, found, opened, retry_failed=retry_failed)
        rows = connection.execute("select url, caption, attempt from unsettled order by left(sha256(url), 32)")
        parts = _cut(rows.to_arrow_reader(source.shard_size), source.shard_size)
        new = [_new_shard(lake, source, part) for part in parts]
    before = last_attempts(snapshot, [shard.ref.shard_id for shard in new])
    # A fenced attempt left no trace in `downloads`; under its number nothing could ever be committed.
    new = [replace(s, ref=replace(s.ref, attempt=max(s.ref.attempt, before.get(s.ref.shard_id, 0) + 1))) for s in new]
    mine = sum(shard.n_urls for shard, asked in old if asked == request)  # by a try that was killed before its record
    plan = IngestPlan(
        source=source.name,
        request=request,
        refs=(*(shard.ref for shard, _ in old), *(shard.ref for shard in new)),
        listed=found.rows.num_rows,
        list_duplicates=found.duplicates,
        planned=mine + sum(shard.n_urls for shard in new),
    )
    return plan, [_row(shard, request) for shard in new]


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


def _find_unsettled(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    found: UrlList,
    opened: Sequence[str],
    *,
    retry_failed: bool,
) -> None:
    """Make the temporary table ``unsettled`` of listed urls that were never settled and are in no open shard.

    Its columns are url, caption, and attempt: one more than that of the last try of the url. DuckDB spills it.
    """
    connection.execute("create temp table waiting (url varchar)")
    for key in opened:
        urls = read_urls(lake, key).select(["url"])
        connection.register("shard", urls)
        connection.execute("insert into waiting from shard")
        connection.unregister("shard")
    classes = connection.execute(
        "select distinct error_class from raw.downloads where error_class is not null"
    ).fetchall()
    passing = [one for (one,) in classes if is_retryable(one)] if retry_failed else []
    if retry_failed and source.download.allow_private_addresses:
        passing.append(BLOCKED)
    connection.register("listed", found.rows)
    connection.execute(
        """
        create temp table unsettled as
        with last as (
            select d.url_sha256, d.error_class, d.attempt
            from raw.downloads d join raw.shards s using (shard_id, attempt) where s.source = ?
            qualify row_number() over (
                partition by d.url_sha256 order by (d.status = 'failed'), d.attempt desc, s.planned_at desc) = 1)
        select l.url, case when t.value is null then l.caption end as caption, coalesce(last.attempt, 0) + 1 as attempt
        from listed l left join last on last.url_sha256 = left(sha256(l.url), 32)
        left join (select distinct value from takedowns where kind = 'url_sha256') t
            on t.value = left(sha256(l.url), 32)
        where l.url not in (select url from waiting)
            and (last.url_sha256 is null or last.error_class in (select unnest(?::varchar[])))""",
        [source.name, passing],
    )
    connection.unregister("listed")


def _cut(batches: pa.RecordBatchReader, size: int) -> Iterator[pa.Table]:
    """The rows of a reader in tables of ``size`` rows; the last one may be shorter."""
    rest = batches.schema.empty_table()
    for batch in batches:
        rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
        while rest.num_rows >= size:
            yield rest.slice(0, size)
            rest = rest.slice(size)
    if rest.num_rows:
        yield rest


def _new_shard(lake: Lake, source: Source, rows: pa.Table) -> Shard:
    """Write the urls; without a row that names them they mean nothing."""
    name = shard_id(source.name, source.download, rows["url"].to_pylist())
    key = urls_key(source.name, name)
    write_urls(lake, key, rows.select(["url", "caption"]))
    ref = ShardRef(source.name, name, max(rows["attempt"].to_pylist()))
    return Shard(ref, key, rows.num_rows, source.download, source.licence)


def _row(shard: Shard, request: str) -> dict[str, Any]:
    return {
        "shard_id": shard.ref.shard_id,
        "source": shard.ref.source,
        "attempt": shard.ref.attempt,
        "urls": shard.urls_key,
        "n_urls": shard.n_urls,
        "download": shard.settings.model_dump_json(),
        "planned_at": datetime.now(UTC),
        "request": request,
    }
