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
