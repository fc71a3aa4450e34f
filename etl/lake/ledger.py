"""Where every picture stands: shards by whether they are settled, stages by outcome.

Counts add up by construction: of each stage, ok + empty + failed + pending is the number of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from etl.lake.parting import parts
from etl.lake.snapshot import Snapshot
from etl.settings.catalog import STAGES

_SHARDS = """
    with settled as (select shard_id, attempt, count(*) as urls, count(*) filter (status = 'failed') as failed
        from raw.downloads group by all)
    select s.source, s.shard_id, s.attempt, s.planned_at, s.n_urls as urls,
        settled.urls is not null as settled, coalesce(settled.failed, 0) as failed_urls
    from shards s left join settled using (shard_id, attempt)
    where ? is null or s.source = ? order by s.source, s.planned_at, s.shard_id, s.attempt"""
_PICTURES = "select shard_id, attempt, count(*) from images where ? is null or source = ? group by all"
_STAGES = """
    with stages as (select unnest(?::varchar[]) as stage)
    select i.source, i.shard_id, i.attempt, stages.stage, coalesce(o.status, 'pending') as status, o.reason,
        count(*) as n
    from images i cross join stages
    left join outcomes o on o.image_id = i.image_id and o.stage = stages.stage
    where ? is null or i.source = ? group by all"""
_ANNOTATORS = """
    select c.source, c.stage, c.annotator_id, a.model, a.untrained
    from current c join annotators a using (annotator_id) where ? is null or c.source = ?"""


@dataclass(frozen=True)
class StageCounts:
    """The images of a source (or shard) by their outcome of one stage, as the current annotator left them.

    Attributes:
        stage: The stage.
        annotator_id: The current annotator, or None when the stage never ran for the source.
        model: Its name in the catalog, or None.
        untrained: Whether its weights are random.
        ok: Images with a result.
        empty: Images without anything to find, by reason.
        failed: Images that failed, by reason.
        pending: Images without an outcome.
    """

    stage: str
    annotator_id: str | None = None
    model: str | None = None
    untrained: bool = False
    ok: int = 0
    empty: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0

    @property
    def images(self) -> int:
        """All images: the sum of the four."""
        return self.ok + sum(self.empty.values()) + sum(self.failed.values()) + self.pending


@dataclass(frozen=True)
class ShardState:
    """One attempt of a shard.

    Attributes:
        source: Its source.
        shard_id: Its id.
        attempt: 1 for the first.
        planned_at: When it was planned.
        urls: Urls in its list.
        settled: Whether every url has its outcome.
        failed_urls: Urls that failed.
        images: Images whose canonical copy it holds.
        pending: Of these, images without an outcome, by stage.
    """

    source: str
    shard_id: str
    attempt: int
    planned_at: datetime
    urls: int
    settled: bool
    failed_urls: int
    images: int
    pending: Mapping[str, int]


@dataclass(frozen=True)
class SourceState:
    """A source: its shards and the stages over its images."""

    source: str
    images: int
    shards: tuple[ShardState, ...]
    stages: tuple[StageCounts, ...]

    @property
    def open_shards(self) -> int:
        """Planned shards that are not settled yet."""
        return sum(not shard.settled for shard in self.shards)

    @property
    def open_urls(self) -> int:
        """Urls in the lists of open shards."""
        return sum(shard.urls for shard in self.shards if not shard.settled)


def read_ledger(snapshot: Snapshot, source: str | None = None) -> list[SourceState]:
    """The state of every source with shards, by name, or of one source; empty when there is none."""
    images: Counter[tuple[str, int]] = Counter()
    cells: Counter[tuple[str, str, int, str, str, str]] = Counter()
    with snapshot.connect() as connection:
        shards = connection.execute(_SHARDS, [source, source]).to_arrow_table().to_pylist()
        annotators = {(row[0], row[1]): row[2:] for row in connection.execute(_ANNOTATORS, [source, source]).fetchall()}
        for _ in parts(connection):
            for shard, attempt, n in connection.execute(_PICTURES, [source, source]).fetchall():
                images[shard, attempt] += n
            for *cell, reason, n in connection.execute(_STAGES, [list(STAGES), source, source]).fetchall():
                name, shard, attempt, stage, status = cell
                cells[name, shard, attempt, stage, status, reason or ""] += n
    pending: dict[tuple[str, int], dict[str, int]] = {}
    by_source: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    for (name, shard, attempt, stage, status, reason), n in sorted(cells.items()):
        counts = by_source.setdefault(name, {}).setdefault(stage, {}).setdefault(status, {})
        counts[reason] = counts.get(reason, 0) + n
        if status == "pending":
            pending.setdefault((shard, attempt), {})[stage] = n
    states: list[SourceState] = []
    for name in dict.fromkeys(row["source"] for row in shards):
        stages = tuple(
            _stage(stage, by_source.get(name, {}).get(stage, {}), annotators.get((name, stage))) for stage in STAGES
        )
        own = tuple(
            ShardState(**row, images=images[key], pending=pending.get(key, {}))
            for row in shards
            if row["source"] == name and (key := (row["shard_id"], row["attempt"]))
        )
        states.append(SourceState(name, stages[0].images, own, stages))
    return states


def _stage(stage: str, counts: Mapping[str, Mapping[str, int]], annotator: tuple[str, str, bool] | None) -> StageCounts:
    annotator_id, model, untrained = annotator or (None, None, False)
    ok, pending = (sum(counts.get(status, {}).values()) for status in ("ok", "pending"))
    return StageCounts(
        stage=stage,
        annotator_id=annotator_id,
        model=model,
        untrained=untrained,
        ok=ok,
        empty=dict(counts.get("empty", {})),
        failed=dict(counts.get("failed", {})),
        pending=pending,
    )
