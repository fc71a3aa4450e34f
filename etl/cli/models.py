"""``groundlake models``: which models and weights there are, and whose results the views show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import Context, LakeOption, folding_table, open_context, out
from etl.cli.tune import tune
from etl.cli.weights import add, model_store, pull, size_text, verify
from etl.errors import ConfigurationError
from etl.settings.catalog import STAGES

if TYPE_CHECKING:
    from etl.settings import ModelEntry
    from etl.stages.promotion import Coverage

WIDE = 130  # columns of a terminal from which on files and digests are shown too

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Which models there are, their weights, and whose results are shown.",
)


app.command("pull")(pull)
app.command("add")(add)
app.command("verify")(verify)
app.command("tune")(tune)


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lake: LakeOption = None,
) -> None:
    """Every model of the catalog, its annotator in this lake, the sources whose views show it, and upstream's weights.

    A model has an annotator id once its weights are in the lake's model store: its first run puts them there, or, for
    upstream's checkpoints, `groundlake models pull` or `add`.

    For example:

        groundlake models list
    """
    context = open_context(lake, reading=True)
    rows, weights = _rows(context), _weights(context)
    if as_json:
        typer.echo(json.dumps({"models": rows, "weights": weights}))
        return

    table = folding_table("stage", "model", "default", "weights", "annotator", "current for")
    for row in rows:
        state = ("UNTRAINED, " if row["untrained"] else "") + row["weights"]
        default = "yes" if row["default"] else ""
        annotator = (row["annotator_id"] or "-")[:12]
        table.add_row(row["stage"], row["model"], default, state, annotator, ", ".join(row["current_for"]) or "-")
    out.print(table)
    wide = out.width >= WIDE
    table = folding_table("weights", "family", "state", "size", "licence", *(["sha256", "files"] if wide else []))
    for one in weights:
        state = f"in the lake ({one['digest'][:12]})" if one["digest"] else "absent"
        more = [one["sha256"], ", ".join(one["files"])] if wide else []
        table.add_row(one["weights"], one["family"], state, size_text(one["bytes"]), one["licence"], *more)
    out.print(table)
    if not wide:
        out.print("which files each needs: a wider terminal, or --json", markup=False)


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
    from etl.stages.annotators import annotator_of
    from etl.stages.registry import stage_class

    models = model_store(context)
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
                "weights": _weights_state(entry, stored=annotator is not None),
                "annotator_id": annotator.annotator_id if annotator else None,
                "current_for": [source for source, one in current if annotator and one == annotator.annotator_id],
            }
        )
    return rows


def _weights_state(entry: ModelEntry, *, stored: bool) -> str:
    """Whether a model can run as it is: the first run adds weights of the package and of folders, never upstream's."""
    if stored:
        return "in the lake"
    upstream = any(network.weights.startswith("catalog:") for network in entry.networks.values())
    return "to be pulled or added" if upstream else "at hand"


def _weights(context: Context) -> list[dict[str, Any]]:
    models = model_store(context)
    rows = []
    for entry in sorted(context.catalog.weights.values(), key=lambda one: (one.family, one.name)):
        stored = models.stored(entry.network)
        pinned = sum(file.sha256 is not None for file in entry.files)
        known = [file.bytes for file in entry.files]
        rows.append(
            {
                "weights": entry.name,
                "family": entry.family,
                "digest": stored.digest if stored else None,
                # What is stored was checked when it was added, by the catalog's digests or into the record.
                "sha256": _pins(pinned, len(entry.files), recorded=stored is not None),
                "bytes": stored.bytes if stored else sum(filter(None, known)) if all(known) else None,
                "licence": entry.licence,
                "files": [file.name for file in entry.files],
            }
        )
    return rows


def _pins(pinned: int, files: int, *, recorded: bool) -> str:
    if pinned == files:
        return "pinned"
    rest = "recorded" if recorded else "recorded when added"
    return f"{pinned} of {files} pinned, others {rest}" if pinned else rest


def _show(stage: str, source: str, found: Coverage) -> None:
    out.print(f"{source}: {found.images} images", markup=False)
    if found.old_id:
        _line(f"{stage} now", found.old_id, found.old, found.old_failed)
    _line(f"{stage} then", found.new_id, found.new, found.new_failed)


def _line(label: str, annotator: str, outcomes: int, failed: int) -> None:
    out.print(f"  {label}: {annotator[:12]} has outcomes of {outcomes} images, {failed} of them failed", markup=False)
