"""Requests: what was asked for, and the groups of shards that one pod works on per stage.

A request is fixed by whoever asks first and kept below ``units/requests/``, so every retry and twin reads the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from etl.errors import DataError, UnknownNameError
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.models.store import ModelStore
from etl.settings import Catalog
from etl.settings.catalog import STAGES
from etl.stages.staleness import MAX_TRIES, annotator_chain, count_stale, order_items, stage_chain

__all__ = [
    "MAX_TRIES",
    "Group",
    "Request",
    "Survey",
    "annotator_chain",
    "check_group",
    "order_items",
    "plan_groups",
    "plan_request",
    "read_request",
    "request_key",
    "select_shards",
    "survey",
]

GROUP_SECONDS = 20 * 60
MAX_GROUPS = 1000  # Airflow maps at most 1024 tasks


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
        groups = plan_groups(lake, catalog, sources=sources, shards=shards, stages=stages, models=models, force=force)
        request = Request(key, name, datetime.now(UTC).isoformat(), ordered_stages(stages), force, tuple(groups))
        lake.store.put_if_absent(_place(key), json.dumps(asdict(request)).encode())
    return read_request(lake, key)


def plan_groups(
    lake: Lake,
    catalog: Catalog,
    *,
    sources: Sequence[str] = (),
    shards: Sequence[str] = (),
    stages: Sequence[str] = STAGES,
    models: Mapping[str, str] | None = None,
    force: bool = False,
) -> list[Group]:
    """The groups a new request would have; writes nothing. Arguments and errors are those of ``plan_request``."""
    chosen = ordered_stages(stages)
    ordered_stages(tuple(models or {}))
    snapshot = Snapshot.take(lake)
    found = survey(snapshot)
    stale: list[tuple[str, list[str], dict[str, str], int]] = []
    for source, members in select_shards(found, sources, shards).items():
        names = model_names(catalog, source, chosen, models or {})
        unpromoted = any((source, stage) not in found.promoted for stage in chosen)
        wanted = (
            # Without a current annotator nothing of the source would show, however fresh its images are through
            # another source: running the stage registers one.
            members if force or unpromoted else _stale_shards(lake, catalog, snapshot, members, chosen, names)
        )
        stale.append((source, wanted, names, 1 if shards else found.group_size(source)))
    scale = 1
    while sum(-(-len(wanted) // (size * scale)) for _, wanted, _, size in stale) > max(MAX_GROUPS, len(stale)):
        scale *= 2  # longer groups rather than shards left out
    return [
        Group(source, tuple(wanted[start : start + size * scale]), names)
        for source, wanted, names, size in stale
        for start in range(0, len(wanted), size * scale)
    ]


def ordered_stages(stages: Sequence[str]) -> tuple[str, ...]:
    """The stages in the order they run in; raises UnknownNameError."""
    for stage in stages:
        if stage not in STAGES:
            raise UnknownNameError("stage", stage, list(STAGES))
    return tuple(stage for stage in STAGES if stage in stages)


def model_names(catalog: Catalog, source: str, stages: Sequence[str], models: Mapping[str, str]) -> dict[str, str]:
    """The model of every stage in ``stages`` and of all that are upstream of them: named, the source's, or default.

    Raises:
        UnknownNameError: A stage has no model of that name.
    """
    of_source = catalog.sources.get(source)
    preferred = {str(stage): name for stage, name in of_source.models.items()} if of_source else {}
    needed = {step for stage in stages for step in stage_chain(stage)} | set(models)
    return {
        stage: catalog.model(stage, models.get(stage) or preferred.get(stage)).name
        for stage in STAGES
        if stage in needed
    }


@dataclass(frozen=True)
class Survey:
    """What planning asks of a lake.

    Attributes:
        shards: Source, shard and number of canonical images of every shard with images, in planning order.
        sources: Every source that was ever planned.
        promoted: Source and stage of every current annotator.
        rates: Images per second of every stage that was measured.
    """

    shards: Sequence[tuple[str, str, int]]
    sources: frozenset[str]
    promoted: frozenset[tuple[str, str]]
    rates: Mapping[str, float]

    def group_size(self, source: str) -> int:
        """Shards worth twenty minutes by measured throughput of the slowest stage; one while nothing was measured."""
        images = [count for name, _, count in self.shards if name == source]
        if not self.rates or not images:
            return 1
        return max(1, int(GROUP_SECONDS * min(self.rates.values()) * len(images) / sum(images)))


def survey(snapshot: Snapshot) -> Survey:
    """Look at a lake once for all questions of planning."""
    with snapshot.connect() as connection:
        shards = connection.sql(
            "select source, shard_id, count(*) from images group by all order by source, min(planned_at), shard_id"
        ).fetchall()
        sources = connection.sql("select distinct source from shards").fetchall()
        promoted = connection.sql("select source, stage from current").fetchall()
        rates = connection.sql(
            "select stage, sum(images) / sum(seconds) from runs where images > 0 and seconds > 0 group by stage"
        ).fetchall()
    return Survey(
        shards,
        frozenset(row[0] for row in sources),
        frozenset(promoted),
        dict(rates),
    )


def select_shards(found: Survey, sources: Sequence[str] = (), shards: Sequence[str] = ()) -> dict[str, list[str]]:
    """Shards with images per source, in planning order.

    Args:
        found: What is in the lake.
        sources: Only these; empty means all.
        shards: Only these (ids or unique beginnings of ids); empty means all.

    Raises:
        UnknownNameError: A source was never ingested; no shard, or more than one, of the sources begins like that.
    """
    for source in sources:
        if source not in found.sources:
            known = sorted(found.sources)
            raise UnknownNameError("source", source, known, remedy="ingest it first: groundlake ingest run")
    candidates = [(source, shard) for source, shard, _ in found.shards if not sources or source in sources]
    wanted = {_full_shard(short, [shard for _, shard in candidates]) for short in shards}
    members: dict[str, list[str]] = {}
    for source, shard in candidates:
        if not shards or shard in wanted:
            members.setdefault(source, []).append(shard)
    return members


def check_group(request: Request, number: int) -> Group:
    """The group of a number; raises DataError when the request has no such group."""
    if not 0 <= number < len(request.groups):
        raise DataError(f"request {request.key} has {len(request.groups)} groups, there is no number {number}")
    return request.groups[number]


def _place(key: str) -> str:
    return f"units/requests/{key}.json"


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
        if not chain:  # without weights it never ran here: this stage has everything to do
            return list(members)
        stale |= set(count_stale(snapshot, members, chain))
    return [shard for shard in members if shard in stale]
