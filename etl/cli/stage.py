"""``groundlake stage``: one stage over one group, as Airflow's tasks and pods call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import LakeOption, open_context, out

if TYPE_CHECKING:
    from etl.stages.progress import Progress
    from etl.stages.summary import StageSummary

DeviceOption = Annotated[
    str | None, typer.Option("--device", help="auto, cpu or cuda:N; else GROUNDLAKE_DEVICE, which is auto.")
]

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Run one stage over one group of a planned request."
)


@app.callback()
def _group() -> None:
    pass


@app.command("run")
def run(
    stage: Annotated[str, typer.Argument(help="tag, ground, caption or embed.")],
    request: Annotated[
        str, typer.Option("--request", help="Key of the request, printed by 'groundlake annotate plan --request NAME'.")
    ],
    group: Annotated[int, typer.Option("--group", help="Number of the group in the request, from 0.")] = 0,
    device: DeviceOption = None,
    lake: LakeOption = None,
) -> None:
    """Run one stage over one group. Give the same command again after any failure: it resumes where it was.

    Exit codes: 0 done, 75 try again (the place failed), 65 bad data, 78 bad configuration.

    For example:

        groundlake stage run tag --request 3f1c… --group 0

        groundlake stage run ground --request 3f1c… --group 0 --device cuda:0
    """
    from etl.stages.runner import run_stage

    context = open_context(lake)
    summary = run_stage(
        context.lake,
        context.catalog,
        stage,
        request,
        group,
        device=device or context.settings.device,
        progress=print_slice,
    )
    out.print(final_line(summary), markup=False)


def print_slice(step: Progress) -> None:
    """One line for every finished slice."""
    if step.counts:
        out.print(
            f"{step.stage}: shard {step.shard[:12]} ({step.shard_number + 1}/{step.shards}), "
            f"slice {step.slice + 1}/{step.slices}, {step.done}/{step.total} images: {words(step.counts)}, "
            f"{step.images_per_second:.1f} images/s",
            markup=False,
        )


def words(counts: Mapping[str, int]) -> str:
    """Counts as words.

    >>> words({"ok": 12, "empty/no_tags": 3})
    '12 ok, 3 empty/no_tags'
    """
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def final_line(summary: StageSummary) -> str:
    """What a stage did, in one line."""
    notes = [summary.note] if summary.note else []
    notes += ["UNTRAINED weights: these answers mean nothing"] if summary.untrained else []
    tail = "".join(f"; {note}" for note in notes)
    if not summary.images:
        return f"{summary.stage} ({summary.model}): nothing to do{tail}"
    resumed = summary.images - summary.worked
    earlier = f" ({resumed} by an earlier try)" if resumed else ""
    return (
        f"{summary.stage} ({summary.model}): {summary.images} images{earlier}: {words(summary.counts)}; "
        f"{summary.seconds:.1f} s, {summary.images_per_second:.1f} images/s, network {summary.network_seconds:.1f} s, "
        f"waited for pictures {summary.decode_wait_seconds:.1f} s{tail}"
    )
