"""``groundlake annotate``: run the stages over what lacks fresh results, or say what that would be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import Context, LakeOption, folding_table, open_context, out
from etl.cli.stage import DeviceOption
from etl.errors import ConfigurationError
from etl.settings.catalog import STAGES

if TYPE_CHECKING:
    from etl.stages.forecast import Forecast
    from etl.stages.planning import Request

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Tags, boxes, masks, captions and text vectors of images."
)

SourceOption = Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be repeated.")]
ShardOption = Annotated[
    list[str] | None, typer.Option("--shard", help="Only this shard (a unique beginning of its id); may be repeated.")
]
StagesOption = Annotated[str, typer.Option("--stages", help="Stages to run, separated by commas.")]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="STAGE=NAME", help="Model of a stage, see 'models list'; may be repeated."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Also images whose results are fresh.")]


ALL_STAGES = ",".join(STAGES)


@app.command("run")
def run(
    source: SourceOption = None,
    shard: ShardOption = None,
    stages: StagesOption = ALL_STAGES,
    model: ModelOption = None,
    force: ForceOption = False,
    device: DeviceOption = None,
    lake: LakeOption = None,
) -> None:
    """Annotate every image that lacks fresh results, in this process.

    Only what is stale is computed. After an interruption the same command goes on where it was. Exit codes: 0 done,
    75 try again, 65 bad data (also when every image failed), 78 bad configuration.

    For example:

        groundlake annotate run --source mine

        groundlake annotate run --stages tag,ground --model tag=ram-plus-swin-large --device cuda:0

        groundlake annotate run --shard 3f1c9a --force
    """
    from etl.cli.annotate_run import annotate

    context = open_context(lake)
    annotate(context, _options(source, shard, stages, model, force), device or context.settings.device)


@app.command("plan")
def plan(
    source: SourceOption = None,
    shard: ShardOption = None,
    stages: StagesOption = ALL_STAGES,
    model: ModelOption = None,
    force: ForceOption = False,
    request: Annotated[
        str | None, typer.Option("--request", help="Keep the plan under this name, for 'groundlake stage run'.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lake: LakeOption = None,
) -> None:
    """Show which images each stage would work on, and for how long by measured throughput. Runs nothing.

    For example:

        groundlake annotate plan --source mine

        groundlake annotate plan --stages tag --request try-1 --json
    """
    from etl.lake import Snapshot
    from etl.stages.forecast import forecast_groups
    from etl.stages.planning import plan_groups, plan_request, survey

    context = open_context(lake)
    options = _options(source, shard, stages, model, force)
    kept = plan_request(context.lake, context.catalog, request, **options) if request else None
    groups = kept.groups if kept else plan_groups(context.lake, context.catalog, **options)
    chosen = kept.stages if kept else options["stages"]
    found = forecast_groups(context.lake, context.catalog, groups, chosen, force=force)
    if as_json:
        content = [
            {"group": number, "source": group.source, "models": group.models, "shards": [asdict(row) for row in rows]}
            for number, (group, rows) in enumerate(zip(groups, found, strict=True))
        ]
        typer.echo(json.dumps({"request": kept.key if kept else None, "groups": content}))
        return
    if not groups:
        _say_nothing_to_do(context, options)
        return
    _show(found, chosen, survey(Snapshot.take(context.lake)).rates)
    if kept:
        _teach(kept)


def _options(
    source: list[str] | None, shard: list[str] | None, stages: str, model: list[str] | None, force: bool
) -> dict[str, Any]:
    """The arguments of ``plan_request``.

    Raises:
        UnknownNameError: A stage is unknown.
        ConfigurationError: A model is not given as STAGE=NAME, or no stage is named.
    """
    from etl.stages.planning import ordered_stages

    models = dict(_model(one) for one in model or [])
    chosen = ordered_stages([one.strip() for one in stages.split(",") if one.strip()])
    if not chosen:
        raise ConfigurationError("--stages names no stage", remedy=f"known: {', '.join(STAGES)}")
    return {
        "sources": sorted(set(source or [])),
        "shards": sorted(set(shard or [])),
        "stages": list(chosen),
        "models": models,
        "force": force,
    }


def _model(text: str) -> tuple[str, str]:
    stage, equals, name = text.partition("=")
    if not (stage and equals and name):
        raise ConfigurationError(
            f"--model {text!r}: expected STAGE=NAME",
            remedy="for example: --model tag=ram-swin-large; see 'groundlake models list'",
        )
    return stage, name


def _say_nothing_to_do(context: Context, options: Mapping[str, Any]) -> None:
    from etl.cli.annotate_run import nothing_to_do

    out.print(nothing_to_do(context, options), markup=False)


def _show(found: Sequence[Sequence[Forecast]], stages: Sequence[str], rates: Mapping[str, float]) -> None:

    table = folding_table("group", "source", "shards", "images", *stages, title="images to work on, per stage")
    table.columns[2].overflow = "fold"
    for number, rows in enumerate(found):
        shards = list(dict.fromkeys(row.shard for row in rows))
        label = shards[0][:12] + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
        images = sum(row.images for row in rows if row.stage == stages[0])
        cells = [_cell([row for row in rows if row.stage == stage]) for stage in stages]
        table.add_row(str(number), rows[0].source, label, str(images), *cells)
    out.print(table)
    for stage in stages:
        stale = sum(row.stale for rows in found for row in rows if row.stage == stage)
        waiting = sum(row.waiting for rows in found for row in rows if row.stage == stage)
        rate = rates.get(stage)
        time = f"about {(stale + waiting) / rate / 60:.1f} min at {rate:.1f} images/s" if rate else "not measured yet"
        out.print(f"{stage}: {stale} stale, {waiting} wait for an earlier stage; {time}", markup=False)


def _cell(rows: Sequence[Forecast]) -> str:
    waiting = sum(row.waiting for row in rows)
    return str(sum(row.stale for row in rows)) + (f" (+{waiting} waiting)" if waiting else "")


def _teach(request: Request) -> None:
    out.print(f"\nrequest {request.key}, {len(request.groups)} groups; run each stage of each group:", markup=False)
    for stage in request.stages:
        out.print(f"  groundlake stage run {stage} --request {request.key} --group 0", markup=False)
