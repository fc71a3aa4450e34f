"""``groundlake models``: which models there are, and whose results the views show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import Context, LakeOption, folding_table, open_context, out
from etl.errors import ConfigurationError
from etl.settings.catalog import STAGES

if TYPE_CHECKING:
    from etl.stages.promotion import Coverage

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Which models there are, and whose results are shown."
)


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lake: LakeOption = None,
) -> None:
    """Every model of the catalog, its annotator in this lake, and the sources whose views show it.

    A model has an annotator id once its weights are in the lake's model store: its first run puts them there.

    For example:

        groundlake models list
    """
    rows = _rows(open_context(lake, reading=True))
    if as_json:
        typer.echo(json.dumps(rows))
        return

    table = folding_table("stage", "model", "default", "weights", "annotator", "current for")
    for row in rows:
        weights = ("UNTRAINED, " if row["untrained"] else "") + ("in the lake" if row["stored"] else "not in the lake")
        default = "yes" if row["default"] else ""
        annotator = (row["annotator_id"] or "-")[:12]
        table.add_row(row["stage"], row["model"], default, weights, annotator, ", ".join(row["current_for"]) or "-")
    out.print(table)


@app.command("promote")
def promote(
    stage: Annotated[str, typer.Argument(help="tag, ground, caption or embed.")],
    source: Annotated[str, typer.Option("--source", help="The source whose views change.")],
    annotator: Annotated[str, typer.Option("--annotator", help="Annotator id, or a unique beginning of it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Also when images lose the results they show now.")] = False,
    lake: LakeOption = None,
) -> None:
    """Show another annotator's results. No row is changed or deleted: promoting back shows the old ones again.

    For example:

        groundlake models promote tag --source mine --annotator 9b2e41
    """
    from etl.lake import Snapshot
    from etl.stages.planning import ordered_stages
    from etl.stages.promotion import coverage, find_annotator
    from etl.stages.promotion import promote as write

    ordered_stages([stage])
    context = open_context(lake)
    snapshot = Snapshot.take(context.lake)
    chosen = find_annotator(snapshot, stage, annotator)
    found = coverage(snapshot, stage, source, chosen)
    _show(stage, source, found)
    if found.old_id == chosen:
        out.print(f"{chosen[:12]} is the current {stage} annotator of {source} already", markup=False)
        return
    if found.lost and not yes:
        raise ConfigurationError(
            f"{found.lost} of {found.images} images of {source} would show no {stage} outcome at all",
            remedy=f"run it over them first (groundlake annotate run --source {source} --stages {stage} "
            "--model STAGE=NAME), or pass --yes",
        )
    write(context.lake, stage, source, chosen, reason="promoted on the command line")
    out.print(f"views of {source} show {stage} annotator {chosen[:12]} from now on", markup=False)


def _rows(context: Context) -> list[dict[str, Any]]:
    from etl.lake import Snapshot
    from etl.models.store import ModelStore
    from etl.stages.annotators import annotator_of
    from etl.stages.registry import stage_class

    models = ModelStore(context.lake.store, context.lake.settings.scratch / "models")
    with Snapshot.take(context.lake).connect() as connection:
        current = connection.sql("select source, annotator_id from current order by source").fetchall()
    rows = []
    for entry in sorted(context.catalog.models.values(), key=lambda one: (STAGES.index(one.stage), one.name)):
        annotator = annotator_of(stage_class(entry.stage), entry, models)
        rows.append(
            {
                "stage": entry.stage,
                "model": entry.name,
                "default": entry.default,
                "untrained": entry.untrained,
                "stored": annotator is not None,
                "annotator_id": annotator.annotator_id if annotator else None,
                "current_for": [source for source, one in current if annotator and one == annotator.annotator_id],
            }
        )
    return rows


def _show(stage: str, source: str, found: Coverage) -> None:
    out.print(f"{source}: {found.images} images", markup=False)
    if found.old_id:
        _line(f"{stage} now", found.old_id, found.old, found.old_failed)
    _line(f"{stage} then", found.new_id, found.new, found.new_failed)


def _line(label: str, annotator: str, outcomes: int, failed: int) -> None:
    out.print(f"  {label}: {annotator[:12]} has outcomes of {outcomes} images, {failed} of them failed", markup=False)
