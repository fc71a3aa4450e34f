"""The datasets whose truth a lake holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from etl.lake import Snapshot
from etl.settings.catalog import STAGES
from etl.truth.annotators import KIND

_DATASETS = """
    with seen as (
        select annotator_id, count(*) as images from all_outcomes
        where annotator_id in (select annotator_id from annotators where kind = $kind) group by all),
    made as (
        select annotator_id, count(*) as instances from all_instances
        where annotator_id in (select annotator_id from annotators where kind = $kind) group by all),
    shown as (select annotator_id, list(source order by source) as sources from current group by all)
    select a.model, a.record, a.stage, a.annotator_id, a.created_at, coalesce(s.images, 0), coalesce(m.instances, 0),
        coalesce(c.sources, [])
    from annotators a left join seen s using (annotator_id) left join made m using (annotator_id)
    left join shown c using (annotator_id)
    where a.kind = $kind order by a.model, a.created_at, a.annotator_id"""


@dataclass(frozen=True)
class Listed:
    """A dataset: other files under the same name are another one.

    Attributes:
        name: Its name.
        sha256: Digest of its files' content.
        annotators: Annotator id per stage that it speaks of, in the order of the stages.
        images: Pictures with an outcome of it, of the stage that has most.
        instances: Instances of these.
        current_for: Sources whose views show it, per stage; stages that no view shows are left out.
        landed_at: When it was first landed.
    """

    name: str
    sha256: str
    annotators: Mapping[str, str]
    images: int
    instances: int
    current_for: Mapping[str, list[str]]
    landed_at: datetime


def list_truths(snapshot: Snapshot) -> list[Listed]:
    """Every dataset of the lake by name, the one that was landed first before others of its name."""
    with snapshot.connect() as connection:
        rows = connection.execute(_DATASETS, {"kind": KIND}).fetchall()
    datasets: dict[tuple[str, str], list[tuple[str, str, datetime, int, int, list[str]]]] = {}
    for name, record, *rest in rows:
        datasets.setdefault((name, json.loads(record)["sha256"]), []).append(tuple(rest))
    return [_listed(name, sha256, members) for (name, sha256), members in datasets.items()]


def _listed(name: str, sha256: str, members: list[tuple[str, str, datetime, int, int, list[str]]]) -> Listed:
    ordered = sorted(members, key=lambda one: STAGES.index(one[0]))
    return Listed(
        name=name,
        sha256=sha256,
        annotators={stage: annotator for stage, annotator, *_ in ordered},
        images=max(images for _, _, _, images, _, _ in ordered),
        instances=sum(instances for *_, instances, _ in ordered),
        current_for={stage: sources for stage, *_, sources in ordered if sources},
        landed_at=min(at for _, _, at, *_ in ordered),
    )
