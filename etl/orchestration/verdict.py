"""What runs inside the ``verdict`` tasks: green only if every command ended well and few enough images failed.

Single failed images are counted and shown, not red; a shard whose share of failures passes its source's limit is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from etl.orchestration.planning import SHORT, Reference
from etl.settings import Catalog

if TYPE_CHECKING:
    from airflow.sdk import Context

    from etl.lake import Lake

log = getLogger(__name__)
DEFAULT_LIMIT = 0.5  # for sources that are not in the catalog


class VerdictError(AirflowFailException):
    """The run is red; the message lists every reason and what to do next."""


@dataclass(frozen=True)
class Counted:
    """How many images (urls, for ingest) of a shard ended with one status and reason in one step."""

    source: str
    shard: str
    step: str
    status: str
    reason: str | None
    images: int


def conclude(problems: Sequence[str], counted: Iterable[Counted], remedy: str) -> None:
    """Log the counts of a run; raise when there are problems.

    Raises:
        VerdictError: There are; names them all.
    """
    totals: dict[tuple[str, str], int] = {}
    for one in counted:
        name = one.status if one.reason is None else f"{one.status}/{one.reason}"
        totals[one.step, name] = totals.get((one.step, name), 0) + one.images
    for (step, name), images in sorted(totals.items()):
        log.info("%s: %s %d", step, name, images)
    if problems:
        raise VerdictError("\n".join([f"{len(problems)} problems:", *problems, f"  -> {remedy}"]))
    log.info("all is well" if totals else "nothing was to do")


def failed_tasks(states: Mapping[str, str | None], references: Sequence[Reference]) -> list[str]:
    """The tasks of a run that failed, in words.

    Args:
        states: State by task id, with ``_<map index>`` appended for mapped ones, as Airflow's API gives them.
        references: What was planned, in the order of the map indices.
    """
    found = []
    for name, state in sorted(states.items()):
        if state == "failed":
            task, _, index = name.rpartition("_")
            mapped = task and index.isdigit() and int(index) < len(references)
            found.append(
                f"task {task} of {references[int(index)]['label']} failed" if mapped else f"task {name} failed"
            )
    return found


def states_of_run(context: Context) -> dict[str, str | None]:
    """The state of every task instance of the run a task is in."""
    ti, run = context["ti"], context["run_id"]
    return dict(ti.get_task_states(dag_id=ti.dag_id, run_ids=[run]).get(run, {}))


def too_many_failed(catalog: Catalog, counted: Iterable[Counted]) -> list[str]:
    """The shards whose share of failures passes their source's ``max_failed_share``, in words.

    Images that failed only because their upstream did are reported once, where they failed first.
    """
    shards: dict[tuple[str, str, str], list[Counted]] = {}
    for one in counted:
        shards.setdefault((one.source, one.shard, one.step), []).append(one)
    found = []
    for (source, shard, step), rows in sorted(shards.items()):
        total = sum(row.images for row in rows)
        bad = [row for row in rows if row.status == "failed" and row.reason != "upstream_failed"]
        failed = sum(row.images for row in bad)
        entry = catalog.sources.get(source)
        limit = entry.max_failed_share if entry else DEFAULT_LIMIT
        if failed > limit * total:
            reasons = ", ".join(f"{row.reason or 'unknown'} {row.images}" for row in sorted(bad, key=_most_first))
            found.append(
                f"{step} of shard {shard[:SHORT]} of source {source}: {failed} of {total} failed "
                f"({failed / total:.0%}, the limit is {limit:.0%}): {reasons}"
            )
    return found


def downloads_of_shards(lake: Lake, references: Sequence[Reference]) -> list[Counted]:
    """How the urls of a run's shards ended."""
    from etl.lake import Snapshot

    query = """
        select s.source, d.shard_id, 'download', d.status, d.error_class, count(*)
        from downloads d join raw.shards s using (shard_id, attempt)
        where [d.shard_id, d.attempt::varchar] in (select unnest(?::varchar[][])) group by all order by all"""
    wanted = [[reference["shard"], str(reference["attempt"])] for reference in references]
    with Snapshot.take(lake).connect() as connection:
        return [Counted(*row) for row in connection.execute(query, [wanted]).fetchall()]


def outcomes_of_references(lake: Lake, references: Sequence[Reference]) -> list[Counted]:
    """How the images of a run's groups ended in each stage; none for a run with nothing to do."""
    return [row for key in {reference["request"] for reference in references} for row in outcomes_of_request(lake, key)]


def outcomes_of_request(lake: Lake, key: str) -> list[Counted]:
    """How the images ended in each stage of a request: the outcomes it wrote, also those a later one replaced.

    Those of an order that another request had left open, and this one finished, are counted in both.
    """
    from etl.lake import Snapshot
    from etl.stages.opening import adopted_units
    from etl.stages.planning import read_request

    request = read_request(lake, key)
    query = """
        select s.source, o.shard_id, o.stage, o.status, o.reason, count(distinct o.image_id)
        from raw.outcomes o join (select distinct shard_id, source from raw.shards) s using (shard_id)
        where (o.requested_at = ?::timestamptz and o.shard_id in (select unnest(?::varchar[])))
            or o.unit in (select unnest(?::varchar[]))
        group by all order by all"""
    shards = [shard for group in request.groups for shard in group.shards]
    adopted = adopted_units(lake, key)
    with Snapshot.take(lake).connect() as connection:
        return [Counted(*row) for row in connection.execute(query, [request.requested_at, shards, adopted]).fetchall()]


def _most_first(row: Counted) -> tuple[int, str]:
    return -row.images, row.reason or ""
