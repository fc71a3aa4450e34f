"""Which annotator's rows the views show: one per stage and source, and what another one would show instead."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from etl.errors import UnknownNameError
from etl.lake import Lake, Snapshot
from etl.stages.annotators import first_promotion


@dataclass(frozen=True)
class Coverage:
    """How many images of a source have a visible outcome of two annotators.

    Attributes:
        images: Canonical images of the source.
        old_id: The current annotator, or None when the stage never ran for the source.
        old: Images with an outcome of it; of them ``old_failed`` failed.
        new_id: The candidate.
        new: Images with an outcome of it; of them ``new_failed`` failed.
        lost: Images that only the current one has an outcome for: they would show nothing.
    """

    images: int
    old_id: str | None
    old: int
    old_failed: int
    new_id: str
    new: int
    new_failed: int
    lost: int


def find_annotator(snapshot: Snapshot, stage: str, short: str) -> str:
    """The annotator of a stage whose id begins with ``short``.

    Raises:
        UnknownNameError: None does, or more than one.
    """
    with snapshot.connect() as connection:
        rows = connection.execute("select annotator_id from annotators where stage = ?", [stage]).fetchall()
    known = [row[0] for row in rows]
    matches = [one for one in known if one.startswith(short)]
    if len(matches) != 1:
        kind = f"{stage} annotator" if not matches else f"{stage} annotator (ambiguous)"
        raise UnknownNameError(kind, short, matches or known, remedy="see 'groundlake models list'")
    return str(matches[0])


def coverage(snapshot: Snapshot, stage: str, source: str, annotator_id: str) -> Coverage:
    """Compare an annotator with the current one.

    Raises:
        UnknownNameError: There is no such source.
    """
    query = """
        with mine as (select image_id from images where source = $source),
        old as (select image_id, status from all_outcomes where annotator_id = $old and image_id in (from mine)),
        new as (select image_id, status from all_outcomes where annotator_id = $new and image_id in (from mine))
        select (select count(*) from mine), (select count(*) from old),
            (select count(*) from old where status = 'failed'), (select count(*) from new),
            (select count(*) from new where status = 'failed'),
            (select count(*) from old where image_id not in (select image_id from new))"""
    with snapshot.connect() as connection:
        known = [row[0] for row in connection.sql("select distinct source from shards").fetchall()]
        if source not in known:
            raise UnknownNameError("source", source, known)
        found = connection.execute(
            "select annotator_id from current where stage = ? and source = ?", [stage, source]
        ).fetchone()
        old = found[0] if found else None
        counts = connection.execute(query, {"source": source, "old": old or "", "new": annotator_id}).fetchall()[0]
    return Coverage(counts[0], old, counts[1], counts[2], annotator_id, counts[3], counts[4], counts[5])


def promote(lake: Lake, stage: str, source: str, annotator_id: str, reason: str) -> None:
    """Make an annotator the current one of a stage and source; views show its rows from now on.

    A model that runs for the first time afterwards, as after a promotion of ground truth, leaves it so.
    """
    lake.commit("current", first_promotion(stage, source), [])
    row = {
        "stage": stage,
        "source": source,
        "annotator_id": annotator_id,
        "promoted_at": datetime.now(UTC),
        "reason": reason,
    }
    lake.append("current", [row], uuid.uuid4().hex)
