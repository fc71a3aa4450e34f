"""``groundlake lake compact|checkpoint|vacuum|sweep|gc``: care of the lake, by hand or by the ``maintain`` DAG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import LakeOption, folding_table, open_context, out
from etl.cli.progress import counted
from etl.errors import ConfigurationError, UnknownNameError

if TYPE_CHECKING:
    from etl.lake.maintenance import Candidate, Collected

TableOption = Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SHORT = 12  # of an annotator id, where it is read by people


def register(app: typer.Typer) -> None:
    """Add the commands to ``groundlake lake``."""
    for command in (compact, checkpoint, vacuum, sweep, gc):
        app.command(command.__name__)(command)


def compact(table: TableOption = None, as_json: JsonOption = False, lake: LakeOption = None) -> None:
    """Merge small files of the tables into large ones. Safe beside running stages and beside itself.

    The small files stay for older versions of the tables until **vacuum** deletes them.

    For example:

        groundlake lake compact

        groundlake lake compact --table instances
    """
    from etl.lake import maintenance

    context, found = open_context(lake), []
    for name in _tables(table):
        with counted(f"compact {name}", "files") as tell:
            found.append(maintenance.compact(context.lake, name, tell=tell))
        if not as_json:
            out.print(f"{name}: {found[-1].files_before} files -> {found[-1].files_after}")
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))


def checkpoint(table: TableOption = None, lake: LakeOption = None) -> None:
    """Write a checkpoint of each table's log, so that opening it stays fast.

    For example:

        groundlake lake checkpoint
    """
    from etl.lake import maintenance

    context = open_context(lake)
    for name in _tables(table):
        out.print(f"{name}: checkpoint at version {maintenance.checkpoint(context.lake, name)}")


def vacuum(
    table: TableOption = None,
    retention_days: Annotated[
        int | None,
        typer.Option(
            "--retention-days",
            show_default="GROUNDLAKE_RETENTION_DAYS, 30",
            help="Keep what younger versions name; at least 7. Fewer days than the setting cut time travel short.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
    lake: LakeOption = None,
) -> None:
    """Delete files that rewrites replaced and that no recent version and no built manifest names.

    For example:

        groundlake lake vacuum --dry-run

        groundlake lake vacuum --retention-days 14
    """
    from etl.lake import maintenance

    context, found = open_context(lake), []
    for name in _tables(table):
        with counted(f"vacuum {name}", "files") as tell:
            one = maintenance.vacuum(context.lake, name, retention_days=retention_days, dry_run=dry_run, tell=tell)
        found.append(one)
        if not as_json:
            done = "would be deleted" if dry_run else "deleted"
            out.print(f"{name}: {len(one.paths)} files {done}, {one.bytes:,} bytes")
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))


def sweep(
    days: Annotated[
        int | None,
        typer.Option(
            "--days",
            show_default="GROUNDLAKE_SWEEP_DAYS, 7",
            help="Days without progress after which a work order is dead; at least 1.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: JsonOption = False,
    lake: LakeOption = None,
) -> None:
    """Remove what killed processes left: dead work orders, files that nothing names, old temporary files.

    A dead order is first fenced, so that nobody who still works on it can commit it; the next plan takes its images
    again. No row that a view shows is ever touched, and nothing that an order in progress has written.

    For example:

        groundlake lake sweep --dry-run

        groundlake lake sweep --days 3
    """
    from etl.lake import maintenance

    context = open_context(lake)
    with counted("sweep", "steps") as tell:
        swept = maintenance.sweep(context.lake, days=days, dry_run=dry_run, tell=tell)
    if as_json:
        typer.echo(json.dumps({kind: asdict(one) for kind, one in swept.taken.items()}))
        return
    if not swept.taken:
        out.print("nothing to sweep")
        return
    shown = folding_table("what", "number", "bytes", title="would be removed" if dry_run else "removed")
    for kind, one in swept.taken.items():
        shown.add_row(kind, f"{one.count:,}", f"{one.bytes:,}")
    out.print(shown)


def gc(
    superseded: Annotated[
        bool, typer.Option("--superseded", help="All annotators that nothing shown needs any more.")
    ] = False,
    annotator: Annotated[
        list[str] | None,
        typer.Option("--annotator", help="This annotator: its id, or a unique beginning; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show it, even with --yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Drop the rows; without it they are only shown.")] = False,
    as_json: JsonOption = False,
    lake: LakeOption = None,
) -> None:
    """Drop the rows of superseded annotators: those no source shows, and no shown result rests on.

    Without --superseded or --annotator it lists all annotators and says why each is kept. What an annotator was, and
    when it ran, stays known. Older versions keep the rows until **vacuum** deletes their files after the retention;
    what built manifests pin stays as long as they do.

    For example:

        groundlake lake gc

        groundlake lake gc --superseded

        groundlake lake gc --annotator 9b2e41 --yes
    """
    from etl.lake import maintenance

    if superseded and annotator:
        raise ConfigurationError("--superseded and --annotator say two things", remedy="give one of them")
    context = open_context(lake)
    known = maintenance.candidates(context.lake)
    if not superseded and not annotator:
        _show_annotators(known, as_json)
        return
    chosen = maintenance.choose(known, annotator or [])
    only_show = dry_run or not yes
    with counted("gc", "files") as tell:
        found = maintenance.collect(context.lake, [one.annotator_id for one in chosen], dry_run=only_show, tell=tell)
    if as_json:
        ids = [one.annotator_id for one in chosen]
        typer.echo(json.dumps({"annotators": ids, "tables": [asdict(one) for one in found], "dropped": not only_show}))
        return
    _show_collected(chosen, found, only_show)


def _show_annotators(known: Sequence[Candidate], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in known]))
        return
    shown = folding_table("stage", "model", "annotator", "kept as")
    for one in known:
        shown.add_row(one.stage, one.model, one.annotator_id[:SHORT], one.kept or "nothing: superseded")
    out.print(shown)


def _show_collected(chosen: Sequence[Candidate], found: Sequence[Collected], only_show: bool) -> None:
    for one in chosen:
        note = f", {one.kept}: nothing else tells what those were made from" if one.kept else ""
        out.print(f"{one.stage} annotator {one.annotator_id[:SHORT]} ({one.model}){note}", markup=False)
    if not found:
        out.print("no rows to drop")
        return
    shown = folding_table("table", "rows", "files", "bytes", title="would be dropped" if only_show else "dropped")
    for table in found:
        shown.add_row(table.table, f"{table.rows:,}", f"{table.files:,}", f"{table.bytes:,}")
    out.print(shown)
    least = "at least " if only_show else ""
    out.print(
        f"the tables shrink by {least}{sum(one.bytes for one in found):,} bytes now; vacuum frees "
        f"{sum(one.later for one in found):,} after the retention; manifests pin {sum(one.pinned for one in found):,}"
    )
    if only_show:
        out.print("nothing was changed; with --yes the rows are dropped")


def _tables(chosen: list[str] | None) -> list[str]:
    from etl.lake.schemas import TABLES

    for name in chosen or ():
        if name not in TABLES:
            raise UnknownNameError("table", name, list(TABLES))
    return chosen or list(TABLES)
