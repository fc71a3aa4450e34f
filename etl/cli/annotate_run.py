"""What ``groundlake annotate run`` does: all groups and stages in this process, depth-first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from etl.cli.common import Context, err, folding_table, out
from etl.cli.stage import final_line, print_slice, words
from etl.errors import DataError, GroundlakeError, RetryableError, StoppedError
from etl.lake import Lake, Snapshot
from etl.stages.failures import DeviceError
from etl.stages.forecast import forecast
from etl.stages.planning import Group, Request, model_names, plan_request, select_shards, survey
from etl.stages.progress import Progress
from etl.stages.resume import begin, end, unfinished
from etl.stages.runner import try_stage
from etl.stages.staleness import count_images, stage_chain
from etl.stages.summary import StageSummary, add_counts, by_status

if TYPE_CHECKING:
    Failures = list[tuple[str, GroundlakeError]]


def annotate(context: Context, options: Mapping[str, Any], device: str) -> None:
    """Run the request of a command that was cut short, if there is one, and then a new one over what is stale.

    Raises:
        GroundlakeError: Something failed; a retryable error where another try may help.
        DataError: Every image failed.
    """
    resumed = unfinished(context.lake, options)
    if resumed:
        out.print(f"going on with {resumed}, which was interrupted", markup=False)
        _one_request(context, options, device)
        if options["force"]:
            return
    if not _one_request(context, options, device) and not resumed:
        out.print(nothing_to_do(context, options), markup=False)


def _one_request(context: Context, options: Mapping[str, Any], device: str) -> bool:
    """Plan and run one request; returns whether there was anything to do."""
    with _remembered(context.lake, options) as name:
        request = plan_request(context.lake, context.catalog, name, **options)
        summaries, failures = _run(context, request, device)
        _report(context, request, summaries)
        _raise_worst(failures, summaries)
    return any(summary.images or summary.waiting for summary in summaries)


@contextmanager
def _remembered(lake: Lake, options: Mapping[str, Any]) -> Iterator[str]:
    """The request's name; kept for the next command only where going on with it may help."""
    try:
        yield begin(lake, options)
    except RetryableError:
        raise
    except GroundlakeError:
        end(lake, options)
        raise
    end(lake, options)


def _run(context: Context, request: Request, device: str) -> tuple[list[StageSummary], Failures]:
    summaries: list[StageSummary] = []
    failures: Failures = []
    with _watching(len(request.groups)) as watch:
        for number, group in enumerate(request.groups):
            for stage in request.stages:
                try:
                    summary, failure = try_stage(
                        context.lake,
                        context.catalog,
                        stage,
                        request.key,
                        number,
                        device=device,
                        progress=lambda step, group=number: watch(group, step),  # type: ignore[misc]
                    )
                except (StoppedError, DeviceError):
                    raise
                except GroundlakeError as error:
                    failure, summary = error, None
                if summary:
                    summaries.append(summary)
                if failure:
                    failures.append((f"{stage} of group {number} ({group.source})", failure))
    return summaries, failures


@contextmanager
def _watching(groups: int) -> Iterator[Callable[[int, Progress], None]]:
    """A bar on a terminal; elsewhere a line per slice."""
    if not out.is_terminal:
        yield lambda _, step: print_slice(step)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=out) as bar:
        task = bar.add_task("starting", total=None)

        def show(group: int, step: Progress) -> None:
            text = f"{step.stage}, group {group + 1}/{groups}, shard {step.shard_number + 1}/{step.shards}"
            bar.update(task, description=text, completed=step.done, total=step.total)

        yield show


def _report(context: Context, request: Request, summaries: Sequence[StageSummary]) -> None:
    table = folding_table(
        "stage", "model", "images", "ok", "empty", "failed", "images/s", title=f"request {request.name}"
    )
    table.columns[1].overflow = "fold"
    for stage in request.stages:
        mine = [summary for summary in summaries if summary.stage == stage]
        for model in sorted({summary.model for summary in mine}):
            _add_row(table, [summary for summary in mine if summary.model == model])
    if table.rows:
        out.print(table)
    for summary in summaries:
        if summary.note:
            out.print(final_line(summary), style="yellow", markup=False)
    untrained = sorted({summary.model for summary in summaries if summary.untrained and summary.images})
    if untrained:
        err.print(
            f"[bold yellow]UNTRAINED[/]: {', '.join(untrained)} have random weights: these answers mean nothing, "
            "only their structure is real"
        )
    _hint_promotion(context, summaries, request)


def _add_row(table: Table, summaries: Sequence[StageSummary]) -> None:
    counts = add_counts(summary.counts for summary in summaries)
    images = sum(counts.values())
    if not images:
        return
    worked, seconds = sum(s.worked for s in summaries), sum(s.seconds for s in summaries if s.worked)
    table.add_row(
        summaries[0].stage,
        summaries[0].model + (" (untrained)" if summaries[0].untrained else ""),
        str(images),
        str(by_status(counts, "ok")),
        *(_reasons(counts, status) for status in ("empty", "failed")),
        f"{worked / seconds:.1f}" if seconds else "-",
    )


def _reasons(counts: Mapping[str, int], status: str) -> str:
    own = {key.partition("/")[2]: count for key, count in counts.items() if key.startswith(f"{status}/")}
    return f"{sum(own.values())} ({words(own)})" if own else "0"


def _hint_promotion(context: Context, summaries: Sequence[StageSummary], request: Request) -> None:
    """Say which results no view shows yet, because another annotator is the current one."""
    with Snapshot.take(context.lake).connect() as connection:
        current = set(connection.sql("select stage, source, annotator_id from current").fetchall())
    sources = sorted({group.source for group in request.groups})
    for stage, annotator in sorted({(s.stage, s.annotator_id) for s in summaries if s.images}):
        for source in sources:
            others = {a for kind, name, a in current if (kind, name) == (stage, source)}
            if others and annotator not in others:
                command = f"groundlake models promote {stage} --source {source} --annotator {annotator[:12]}"
                out.print(f"another {stage} annotator is current for {source}; to show these: {command}", markup=False)


def _raise_worst(failures: Failures, summaries: Sequence[StageSummary]) -> None:
    if failures:
        for where, error in failures:
            err.print(f"{where}: {error}", style="red", markup=False)
        raise next((e for _, e in failures if isinstance(e, RetryableError)), failures[0][1])
    for stage in dict.fromkeys(summary.stage for summary in summaries):
        counts = add_counts(summary.counts for summary in summaries if summary.stage == stage)
        if counts and by_status(counts, "failed") == sum(counts.values()):
            raise DataError(
                f"stage {stage}: every image failed: {words(counts)}",
                remedy='see why: groundlake sql "select stage, reason, error, count(*) from outcomes '
                "where status = 'failed' group by all\"",
            )


def nothing_to_do(context: Context, options: Mapping[str, Any]) -> str:
    """Why a request has no groups: all is fresh, an earlier stage has to come first, or there are no images."""
    snapshot = Snapshot.take(context.lake)
    members = select_shards(survey(snapshot), options["sources"], options["shards"])
    images = sum(count_images(snapshot, shards) for shards in members.values())
    if not images:
        return "nothing to do: there are no images; next: groundlake ingest run --urls urls.parquet --source mine"
    # Where a stage before it was asked for too, an image that waits would have made its shard part of the request.
    lonely = [stage for stage in options["stages"] if not set(stage_chain(stage)[:-1]) <= set(options["stages"])]
    for source, shards in members.items() if lonely else ():
        names = model_names(context.catalog, source, lonely, options["models"])
        group = Group(source, tuple(shards), names)
        for row in forecast(context.lake, context.catalog, group, lonely, force=False):
            if row.waiting:
                return (
                    f"nothing to do yet: {row.waiting} images of shard {row.shard[:12]} of {source} wait for the "
                    f"stages before {row.stage}; run these too: groundlake annotate run --source {source}"
                )
    return f"nothing to do: all {images} images have fresh outcomes"
