"""Which images lack a fresh outcome.

An outcome is stale when its ``input_digest`` differs from the ``value_digest`` of its upstream: a join of two columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl.lake import Snapshot
from etl.lake.parting import parts
from etl.models.store import ModelStore
from etl.settings import Catalog
from etl.stages.annotators import Annotator, annotator_of
from etl.stages.registry import stage_class

if TYPE_CHECKING:
    import duckdb

MAX_TRIES = 3


def annotator_chain(catalog: Catalog, models: ModelStore, stage: str, names: Mapping[str, str]) -> list[Annotator]:
    """The annotators from the first stage down to ``stage``; empty while weights of one of them are missing."""
    chain: list[Annotator] = []
    for step in stage_chain(stage):
        annotator = annotator_of(stage_class(step), catalog.model(step, names[step]), models)
        if annotator is None:
            return []
        chain.append(annotator)
    return chain


def stage_chain(stage: str) -> list[str]:
    """The names of the stages from the one that reads pixels only down to ``stage``.

    Raises:
        UnknownNameError: There is no such stage.
    """
    chain = [stage]
    while (upstream := stage_class(chain[0]).upstream) is not None:
        chain.insert(0, upstream)
    return chain


def order_items(
    snapshot: Snapshot, shards: Sequence[str], chain: Sequence[Annotator], *, force: bool
) -> list[dict[str, Any]]:
    """The images of ``shards`` that need the last annotator of ``chain``, as items of a work order.

    An image needs it when no good outcome of its present input exists, unless that very input has failed for good or
    ``MAX_TRIES`` times: so a failed re-run beside an older good outcome is not tried for ever.

    Args:
        snapshot: What is in the lake.
        shards: Shards whose canonical images are considered.
        chain: The annotators from the stage that reads pixels only down to the one to run.
        force: Also images whose outcome is fresh.

    Returns:
        Mappings with the image, where its bytes are, ``input_digest``, ``tries`` of that input that failed, status and
        reason of the upstream outcome, and ``units``: per upstream stage the unit that wrote its visible rows. An image
        whose upstream has no outcome yet is not among them.
    """
    with snapshot.connect() as connection:
        find_stale(connection, shards, chain, force=force)
        return stale_items(connection, chain)


def find_stale(
    connection: duckdb.DuckDBPyConnection, shards: Sequence[str], chain: Sequence[Annotator], *, force: bool
) -> None:
    """Make the temporary table ``stale`` of what ``order_items`` gives; DuckDB spills it, Python sees no row of it."""
    query, bound = _stale(chain, shards, force)
    start = "create temp table stale as"
    for _ in parts(connection, shards):
        connection.execute(f"{start} {query}", bound)
        start = "insert into stale"


def stale_items(
    connection: duckdb.DuckDBPyConnection, chain: Sequence[Annotator], limit: int | None = None
) -> list[dict[str, Any]]:
    """The first rows of ``stale``, by the shape that the network sees, as items of an order."""
    query = f"select * from stale order by width, height, image_id limit {'all' if limit is None else limit}"  # noqa: S608
    rows: list[dict[str, Any]] = connection.execute(query).to_arrow_table().to_pylist()
    for row in rows:
        row["units"] = {a.entry.stage: row.pop(f"unit_{number}") for number, a in enumerate(chain[:-1])}
    return rows


def count_stale(
    snapshot: Snapshot, shards: Sequence[str], chain: Sequence[Annotator], *, force: bool = False
) -> dict[str, int]:
    """How many items ``order_items`` would give per shard; shards without any are left out."""
    query, bound = _stale(chain, shards, force)
    found: Counter[str] = Counter()
    with snapshot.connect() as connection:
        for _ in parts(connection, shards):
            rows = connection.execute(f"select shard_id, count(*) from ({query}) group by shard_id", bound).fetchall()  # noqa: S608
            found.update(dict(rows))
    return dict(found)


def _stale(chain: Sequence[Annotator], shards: Sequence[str], force: bool) -> tuple[str, list[Any]]:
    upstream, last = chain[:-1], chain[-1]
    given = f"u{len(upstream) - 1}.value_digest" if upstream else "i.image_id"
    status, reason = (f"u{len(upstream) - 1}.{c}" if upstream else "null" for c in ("status", "reason"))
    units = "".join(f", u{number}.unit as unit_{number}" for number in range(len(upstream)))
    query = f"""
        with tries as (
            select image_id, input_digest, count(*) as n, bool_or(not retryable) as final from raw.outcomes
            where annotator_id = ? and status = 'failed' group by all)
        select i.image_id, i.shard_id, i.tar, i."offset", i.length, i.width, i.height,
            {given} as input_digest, coalesce(t.n, 0) as tries,
            coalesce({status}, 'ok') as upstream_status, {reason} as upstream_reason{units}
        from images i {_joins(upstream)}
        left join all_outcomes o on o.image_id = i.image_id and o.annotator_id = ?
        left join tries t on t.image_id = i.image_id and t.input_digest = {given}
        where i.shard_id in (select unnest(?::varchar[]))
            and (? or (not coalesce(o.status <> 'failed' and o.input_digest = {given}, false)
                       and not coalesce(t.final or t.n >= {MAX_TRIES}, false)))"""  # noqa: S608 - columns of ours only
    bound = [last.annotator_id, *(a.annotator_id for a in upstream), last.annotator_id, list(shards), force]
    return query, bound


def count_images(snapshot: Snapshot, shards: Sequence[str]) -> int:
    """Canonical images of ``shards``."""
    return sum(images for images, _ in count_begun(snapshot, shards, []).values())


def count_waiting(snapshot: Snapshot, shards: Sequence[str], chain: Sequence[Annotator]) -> int:
    """Canonical images of ``shards`` for which an annotator before the last of ``chain`` has no outcome yet."""
    if len(chain) < 2:
        return 0
    return sum(images - begun for images, begun in count_begun(snapshot, shards, chain[:-1]).values())


def count_begun(
    snapshot: Snapshot, shards: Sequence[str], annotators: Sequence[Annotator]
) -> dict[str, tuple[int, int]]:
    """Per shard its canonical images, and those of them with an outcome of every one of ``annotators``."""
    query = f"""
        with mine as (select image_id, shard_id from images where shard_id in (select unnest(?::varchar[]))),
        begun as (select i.image_id from mine i {_joins(annotators)})
        select shard_id, count(*), count(*) filter (where image_id in (from begun)) from mine group by shard_id"""  # noqa: S608
    found: dict[str, tuple[int, int]] = {}
    with snapshot.connect() as connection:
        for _ in parts(connection, shards):
            rows = connection.execute(query, [list(shards), *(a.annotator_id for a in annotators)]).fetchall()
            for shard, images, begun in rows:
                before = found.get(shard, (0, 0))
                found[shard] = (before[0] + images, before[1] + begun)
    return found


def _joins(upstream: Sequence[Annotator]) -> str:
    return " ".join(
        f"join all_outcomes u{number} on u{number}.image_id = i.image_id and u{number}.annotator_id = ?"
        for number in range(len(upstream))
    )
