"""Which images lack a fresh outcome, and the request that groups their shards.

An outcome is stale when its ``input_digest`` differs from the ``value_digest`` of its upstream: a join of two columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from etl.errors import DataError, UnknownNameError
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.models.store import ModelStore
from etl.settings import Catalog, Source
from etl.settings.catalog import STAGES
from etl.stages.annotators import Annotator, annotator_of
from etl.stages.registry import stage_class

MAX_TRIES = 3
GROUP_SECONDS = 20 * 60
MAX_GROUPS = 1000


@dataclass(frozen=True)
class Group:
    """Consecutive shards of one source that one pod works on per stage, and the model of each stage."""

    source: str
    shards: tuple[str, ...]
    models: Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """What was asked for, fixed by whoever asks first: every retry and twin reads the same.

    Attributes:
        key: Digest of ``name``.
        name: Airflow run id, or an id made by the command line.
        requested_at: ISO time; orders which of two results shows.
        stages: Stages to run, in order.
        force: Also images whose outcome is fresh.
        groups: The work.
    """

    key: str
    name: str
    requested_at: str
    stages: tuple[str, ...]
    force: bool = False
    groups: tuple[Group, ...] = field(default_factory=tuple)


def request_key(name: str) -> str:
    """The key of a request's name; safe as a file name and on a command line."""
    return digest("request", name)


def read_request(lake: Lake, key: str) -> Request:
    """The request of a key; raises NotFoundError."""
    content = lake.store.read_json(_place(key))
    groups = tuple(Group(g["source"], tuple(g["shards"]), g["models"]) for g in content.pop("groups"))
    return Request(**{**content, "stages": tuple(content["stages"])}, groups=groups)


def plan_request(
    lake: Lake,
    catalog: Catalog,
    name: str,
    *,
    sources: Sequence[str] = (),
    shards: Sequence[str] = (),
    stages: Sequence[str] = STAGES,
    models: Mapping[str, str] | None = None,
    force: bool = False,
) -> Request:
    """The request called ``name``: the one that exists, else a new one over all shards that lack fresh outcomes.

    Args:
        lake: The lake.
        catalog: Where models are looked up; a source without an entry takes the default models.
        name: Airflow run id, or an id made by the command line.
        sources: Only these sources; empty means all with images.
        shards: Only these shards (ids or unique beginnings of ids); empty means all.
        stages: Stages to run.
        models: Model per stage; else the source's, else the default one.
        force: Redo images whose outcome is fresh.

    Raises:
        UnknownNameError: A source, shard, stage or model is unknown.
    """
    key = request_key(name)
    if lake.store.stat(_place(key)) is None:
        chosen = _stages(stages)
        groups: list[Group] = []
        snapshot = Snapshot.take(lake)
        for source, members in _members(snapshot, sources, shards).items():
            names = _models(catalog, source, models or {})
            stale = members if force else _stale_shards(lake, catalog, snapshot, members, chosen, names)
            size = 1 if shards else _group_size(snapshot, source)
            groups += [Group(source, tuple(stale[i : i + size]), names) for i in range(0, len(stale), size)]
        request = Request(key, name, datetime.now(UTC).isoformat(), chosen, force, tuple(groups[:MAX_GROUPS]))
        lake.store.put_if_absent(_place(key), json.dumps(asdict(request)).encode())
    return read_request(lake, key)


def order_items(
    snapshot: Snapshot, shards: Sequence[str], chain: Sequence[Annotator], *, force: bool
) -> list[dict[str, Any]]:
    """The images of ``shards`` that need the last annotator of ``chain``, as items of a work order.

    Args:
        snapshot: What is in the lake.
        shards: Shards whose canonical images are considered.
        chain: The annotators from the stage that reads pixels only down to the one to run.
        force: Also images whose outcome is fresh.

    Returns:
        Mappings with the image, where its bytes are, ``input_digest``, and per upstream stage its visible unit,
        status and reason. An image whose upstream has no outcome yet is not among them.
    """
    *upstream, last = chain
    joins, columns, parameters = "", "", []
    for number, annotator in enumerate(upstream):
        joins += f" join all_outcomes u{number} on u{number}.image_id = i.image_id and u{number}.annotator_id = ?"
        columns += f", '{annotator.entry.stage}': u{number}.unit"
        parameters.append(annotator.annotator_id)
    nearest = f"u{len(upstream) - 1}" if upstream else None
    given = f"{nearest}.value_digest" if nearest else "i.image_id"
    status = f"{nearest}.status" if nearest else "'ok'"
    reason = f"{nearest}.reason" if nearest else "null"
    query = f"""
        with tries as (
            select image_id, input_digest, count(*) as n from raw.outcomes
            where annotator_id = ? and status = 'failed' group by all)
        select i.image_id, i.shard_id, i.tar, i."offset", i.length, i.width, i.height,
            {given} as input_digest, {status} as upstream_status, {reason} as upstream_reason,
            to_json({{'': ''{columns}}}) as units
        from images i {joins}
        left join all_outcomes o on o.image_id = i.image_id and o.annotator_id = ?
        left join tries t on t.image_id = i.image_id and t.input_digest = {given}
        where i.shard_id in (select unnest(?::varchar[]))
            and (? or o.image_id is null or o.input_digest <> {given}
                or (o.status = 'failed' and o.retryable and coalesce(t.n, 0) < {MAX_TRIES}))
        order by i.width, i.height, i.image_id"""  # noqa: S608 - stage names and aliases of ours only
    bound = [last.annotator_id, *parameters, last.annotator_id, list(shards), force]
    with snapshot.connect() as connection:
        rows: list[dict[str, Any]] = connection.execute(query, bound).to_arrow_table().to_pylist()
    for row in rows:
        row["units"] = {k: v for k, v in json.loads(row["units"]).items() if k}
    return rows


def annotator_chain(catalog: Catalog, models: ModelStore, stage: str, names: Mapping[str, str]) -> list[Annotator]:
    """The annotators from the first stage down to ``stage``; empty while weights of an upstream are missing."""
    chain: list[Annotator] = []
    step: str | None = stage
    while step is not None:
        cls = stage_class(step)
        annotator = annotator_of(cls, catalog.model(step, names[step]), models)
        if annotator is None:
            return []
        chain.insert(0, annotator)
        step = cls.upstream
    return chain


def _place(key: str) -> str:
    return f"units/requests/{key}.json"


def _stages(stages: Sequence[str]) -> tuple[str, ...]:
    for stage in stages:
        if stage not in STAGES:
            raise UnknownNameError("stage", stage, list(STAGES))
    return tuple(stage for stage in STAGES if stage in stages)


def _models(catalog: Catalog, source: str, models: Mapping[str, str]) -> dict[str, str]:
    of_source: Source | None = catalog.sources.get(source)
    preferred = dict(of_source.models) if of_source else {}
    return {stage: catalog.model(stage, models.get(stage) or preferred.get(stage)).name for stage in STAGES}  # type: ignore[call-overload]


def _members(snapshot: Snapshot, sources: Sequence[str], shards: Sequence[str]) -> dict[str, list[str]]:
    """Shards with images per source, in planning order."""
    with snapshot.connect() as connection:
        found = connection.sql(
            "select source, shard_id from images group by all order by source, min(planned_at), shard_id"
        ).fetchall()
        known = {row[0] for row in connection.sql("select distinct source from shards").fetchall()}
    for source in sources:
        if source not in known:
            raise UnknownNameError("source", source, sorted(known), remedy="ingest it first: groundlake ingest run")
    wanted = [_full_shard(short, [shard for _, shard in found]) for short in shards]
    members: dict[str, list[str]] = {}
    for source, shard in found:
        if (not sources or source in sources) and (not wanted or shard in wanted):
            members.setdefault(source, []).append(shard)
    return members


def _full_shard(short: str, known: Sequence[str]) -> str:
    matches = [shard for shard in known if shard.startswith(short)]
    if len(matches) != 1:
        kind = "shard" if not matches else "shard (ambiguous)"
        raise UnknownNameError(kind, short, sorted(matches or known)[:20], remedy="see 'groundlake status --shards'")
    return matches[0]


def _stale_shards(
    lake: Lake,
    catalog: Catalog,
    snapshot: Snapshot,
    members: Sequence[str],
    stages: Sequence[str],
    names: Mapping[str, str],
) -> list[str]:
    models = ModelStore(lake.store, lake.settings.scratch / "models")
    stale: set[str] = set()
    for stage in stages:
        chain = annotator_chain(catalog, models, stage, names)
        if not chain:  # never ran here: this stage has everything to do
            return list(members)
        stale |= {row["shard_id"] for row in order_items(snapshot, members, chain, force=False)}
    return [shard for shard in members if shard in stale]


def _group_size(snapshot: Snapshot, source: str) -> int:
    """Shards worth twenty minutes by measured throughput of the slowest stage; one while nothing was measured."""
    with snapshot.connect() as connection:
        (rate,) = connection.execute(
            "select min(rate) from (select sum(images) / nullif(sum(seconds), 0) as rate from runs group by stage)"
        ).fetchone() or (None,)
        (images,) = connection.execute(
            "select avg(n) from (select count(*) as n from images where source = ? group by shard_id)", [source]
        ).fetchone() or (None,)
    if not rate or not images:
        return 1
    return max(1, int(GROUP_SECONDS * rate / images))


def check_group(request: Request, number: int) -> Group:
    """The group of a number; raises DataError when the request has no such group."""
    if not 0 <= number < len(request.groups):
        raise DataError(f"request {request.key} has {len(request.groups)} groups, there is no number {number}")
    return request.groups[number]
