"""What a request would do, before anything runs: images per shard and stage, and the time that took so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etl.lake import Lake, Snapshot
from etl.models.store import ModelStore
from etl.settings import Catalog
from etl.stages.planning import Group
from etl.stages.staleness import annotator_chain, count_begun, count_stale, stage_chain


@dataclass(frozen=True)
class Forecast:
    """One stage of one shard.

    Attributes:
        source: Source of the shard.
        shard: The shard.
        stage: The stage.
        images: Canonical images of the shard.
        stale: Images the stage would work on now; a changed upstream may make more of them stale.
        waiting: Images without an outcome of an upstream stage yet.
    """

    source: str
    shard: str
    stage: str
    images: int
    stale: int
    waiting: int


def forecast_groups(
    lake: Lake, catalog: Catalog, groups: Sequence[Group], stages: Sequence[str], *, force: bool
) -> list[list[Forecast]]:
    """What each stage would find to do in each shard of each group; asks the lake once per source and models."""
    alike: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for group in groups:
        alike.setdefault((group.source, tuple(sorted(group.models.items()))), []).extend(group.shards)
    rows: dict[str, list[Forecast]] = {}
    for (source, models), shards in alike.items():
        for row in forecast(lake, catalog, Group(source, tuple(shards), dict(models)), stages, force=force):
            rows.setdefault(row.shard, []).append(row)
    return [[row for shard in group.shards for row in rows[shard]] for group in groups]


def forecast(lake: Lake, catalog: Catalog, group: Group, stages: Sequence[str], *, force: bool) -> list[Forecast]:
    """What each stage would find to do in each shard of a group; writes nothing."""
    models = ModelStore(lake.store, lake.settings.scratch / "models")
    snapshot = Snapshot.take(lake)
    found: list[Forecast] = []
    for stage in stages:
        earlier = stage_chain(stage)[:-1]
        upstream = annotator_chain(catalog, models, earlier[-1], group.models) if earlier else []
        begun = count_begun(snapshot, group.shards, upstream)
        if earlier and not upstream:  # nothing upstream ever ran
            begun = {shard: (images, 0) for shard, (images, _) in begun.items()}
        chain = annotator_chain(catalog, models, stage, group.models)
        # Without weights of its own the stage never ran: all that is ready is stale.
        stale = (
            count_stale(snapshot, group.shards, chain, force=force)
            if chain
            else {shard: ready for shard, (_, ready) in begun.items()}
        )
        for shard in group.shards:
            images, ready = begun.get(shard, (0, 0))
            found.append(Forecast(group.source, shard, stage, images, stale.get(shard, 0), images - ready))
    return found
