"""What runs inside the ``settle`` tasks: what a run added to the lake, as the ``extra`` of an asset event.

An ``extra`` holds references and counts, never lists of images. None means that nothing is new: no event is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from etl.orchestration.place import Place
from etl.orchestration.planning import Reference, manifest_versions
from etl.orchestration.verdict import outcomes_of_references

if TYPE_CHECKING:
    from airflow.sdk.types import OutletEventAccessorsProtocol

log = getLogger(__name__)
Extra = dict[str, Any]


def settle_ingest(place: Place, references: Sequence[Reference], request: str) -> Extra | None:
    """New pictures that the shards of a run brought, by source."""
    from etl.lake import Snapshot

    query = """
        select s.source, count(distinct s.shard_id) as shards, count(distinct i.image_id) as images
        from images i join raw.shards s using (shard_id, attempt)
        where [i.shard_id, i.attempt::varchar] in (select unnest(?::varchar[][])) group by all order by all"""
    wanted = [[reference["shard"], str(reference["attempt"])] for reference in references]
    with Snapshot.take(place.lake).connect() as connection:
        found = connection.execute(query, [wanted]).fetchall()
    if not found:
        return None
    return {
        "request": request,
        "sources": [source for source, _, _ in found],
        "shards": sum(shards for _, shards, _ in found),
        "images": sum(images for _, _, images in found),
    }


def settle_annotate(place: Place, references: Sequence[Reference]) -> Extra | None:
    """What the stages of a run wrote, by source and status: also that of a group whose later stage failed."""
    counts: dict[str, int] = {}
    sources: set[str] = set()
    for row in outcomes_of_references(place.lake, references):
        counts[row.status] = counts.get(row.status, 0) + row.images
        sources.add(row.source)
    if not counts:
        return None
    return {"request": references[0]["request"], "sources": sorted(sources), "outcomes": counts}


def settle_manifests(place: Place, references: Sequence[Reference]) -> Extra | None:
    """The manifests whose latest version is another than when the run was planned."""
    after = manifest_versions(place)
    new: Mapping[str, str] = {
        reference["name"]: after[reference["name"]]
        for reference in references
        if after.get(reference["name"]) not in (None, reference["before"])
    }
    return {"manifests": dict(new)} if new else None


def publish(asset: Asset, extra: Extra | None, outlet_events: OutletEventAccessorsProtocol) -> None:
    """Attach ``extra`` to the event of a task's asset, or end the task as skipped so that no event is sent.

    Raises:
        AirflowSkipException: Nothing is new; DAGs that wait for the asset need not run.
    """
    if extra is None:
        raise AirflowSkipException(f"nothing new: no event for {asset.uri}")
    log.info("%s: %s", asset.uri, extra)
    outlet_events[asset].extra = dict(extra)
