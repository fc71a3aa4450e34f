"""Requests: what was asked for, and the groups of shards that one pod works on per stage.

A request is fixed by whoever asks first and kept below ``units/requests/``, so every retry and twin reads the same.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from etl.errors import DataError, UnknownNameError
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.lake.parting import parts
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
PACK_IMAGES = 10_000  # stale ones that an order over several shards is planned for
PACK_SHARDS = 1000  # each costs a look at its tar


@dataclass(frozen=True)
class Group:
    """Consecutive shards of one source that one pod works on per stage, and the model of each stage.

    Attributes:
        source: The source.
        shards: All of them.
        models: Model per stage.
        orders: The shards of each work order: one that is stale as a whole is alone, others are packed. Empty in
            requests of earlier versions.
    """

    source: str
    shards: tuple[str, ...]
    models: Mapping[str, str]
    orders: tuple[tuple[str, ...], ...] = ()

    @property
    def members(self) -> tuple[tuple[str, ...], ...]:
        """The shards of each work order."""
        return self.orders or tuple((shard,) for shard in self.shards)


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
    groups = tuple(
        Group(g["source"], tuple(g["shards"]), g["models"], tuple(tuple(order) for order in g.get("orders", ())))
        for g in content.pop("groups")
    )
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
    loads: list[_Load] = []
    for source, members in select_shards(found, sources, shards).items():
        names = model_names(catalog, source, chosen, models or {})
        weights = (
            found.images(source)
            if force
            else _stale_images(lake, catalog, snapshot, found, source, members, names, chosen)
        )
        # Without a current annotator nothing of the source would show, however fresh its images are through another
        # source: running the stage registers one.
        unpromoted = any((source, stage) not in found.promoted for stage in chosen)
        wanted = [shard for shard in members if unpromoted or weights.get(shard)]
        loads.append(
            _Load(source, names, found.images(source), weights, wanted, 1 if shards else found.group_size(source))
        )
    scale = 1
    while sum(len(load.cut(scale)) for load in loads) > max(MAX_GROUPS, len(loads)):
        scale *= 2  # longer groups rather than shards left out
    return [load.group(part) for load in loads for part in load.cut(scale)]


@dataclass(frozen=True)
class _Load:
    """What is to do in a source: shards with images and stale images of each, and how many shards make a group."""

    source: str
    models: Mapping[str, str]
    images: Mapping[str, int]
    stale: Mapping[str, int]
    shards: Sequence[str]
    size: int

    def cut(self, scale: int) -> list[list[str]]:
        """Consecutive shards worth ``size * scale`` whole ones."""
        mean = sum(self.images.values()) / max(1, len(self.images))
        return _packed(
            [(shard, 1.0 if self._is_whole(shard) else min(1.0, self._weight(shard) / mean)) for shard in self.shards],
            self.size * scale,
        )

    def group(self, shards: Sequence[str]) -> Group:
        """A group of these shards, with those that are stale in part packed into common orders."""
        whole = [[shard] for shard in shards if self._is_whole(shard)]
        packs = _packed([(shard, self._weight(shard)) for shard in shards if not self._is_whole(shard)], PACK_IMAGES)
        place = {shard: number for number, shard in enumerate(shards)}
        orders = sorted([*whole, *packs], key=lambda order: place[order[0]])
        return Group(self.source, tuple(shards), self.models, tuple(tuple(order) for order in orders))

    def _is_whole(self, shard: str) -> bool:
        return self.stale.get(shard, 0) >= self.images[shard]

    def _weight(self, shard: str) -> float:
        return max(self.stale.get(shard, 0), PACK_IMAGES / PACK_SHARDS)


def _packed(weights: Sequence[tuple[str, float]], limit: float) -> list[list[str]]:
    """Consecutive names whose weights do not pass a limit; one that passes it alone is alone.

    >>> _packed([("a", 1), ("b", 1), ("c", 2), ("d", 9)], 2)
    [['a', 'b'], ['c'], ['d']]
    """
    packs: list[list[str]] = []
    total = 0.0
    for name, weight in weights:
        if not packs or total + weight > limit * (1 + 1e-9):  # sums of floats
            packs.append([])
            total = 0.0
        packs[-1].append(name)
        total += weight
    return packs


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

    def images(self, source: str) -> dict[str, int]:
        """Canonical images of every shard of a source."""
        return {shard: count for name, shard, count in self.shards if name == source}

    def group_size(self, source: str) -> int:
        """Shards worth twenty minutes by measured throughput of the slowest stage; one while nothing was measured."""
        images = self.images(source).values()
        if not self.rates or not images:
            return 1
        return max(1, int(GROUP_SECONDS * min(self.rates.values()) * len(images) / sum(images)))


def survey(snapshot: Snapshot) -> Survey:
    """Look at a lake once for all questions of planning."""
    counts: dict[tuple[str, str], int] = {}
    with snapshot.connect() as connection:
        for _ in parts(connection):
            for source, shard, images in connection.sql(
                "select source, shard_id, count(*) from images group by all"
            ).fetchall():
                counts[source, shard] = counts.get((source, shard), 0) + images
        order = connection.sql(
            "select source, shard_id from shards group by all order by source, min(planned_at), shard_id"
        ).fetchall()
        sources = connection.sql("select distinct source from shards").fetchall()
        promoted = connection.sql("select source, stage from current").fetchall()
        rates = connection.sql(
            "select stage, sum(images) / sum(seconds) from runs where images > 0 and seconds > 0 group by stage"
        ).fetchall()
    return Survey(
        [(*place, counts[place]) for place in order if place in counts],
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
    known = sorted({shard for _, shard in candidates}) if shards else []
    wanted = {_full_shard(short, known) for short in shards}
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
    """The one of ``known``, which are sorted, that begins like that."""
    start = bisect_left(known, short)
    matches = [shard for shard in known[start : start + 20] if shard.startswith(short)]
    if len(matches) != 1:
        kind = "shard" if not matches else "shard (ambiguous)"
        raise UnknownNameError(kind, short, list(matches or known[:20]), remedy="see 'groundlake status --shards'")
    return matches[0]


def _stale_images(
    lake: Lake,
    catalog: Catalog,
    snapshot: Snapshot,
    found: Survey,
    source: str,
    members: Sequence[str],
    names: Mapping[str, str],
    stages: Sequence[str],
) -> dict[str, int]:
    """Images per shard that some of the stages may work on, at most; shards without any are left out."""
    models = ModelStore(lake.store, lake.settings.scratch / "models")
    images = found.images(source)
    stale: dict[str, int] = {}
    for stage in stages:
        chain = annotator_chain(catalog, models, stage, names)
        if not chain:  # without weights it never ran here: this stage has everything to do
            return {shard: images[shard] for shard in members}
        for shard, count in count_stale(snapshot, members, chain).items():
            stale[shard] = min(images[shard], stale.get(shard, 0) + count)
    return stale
