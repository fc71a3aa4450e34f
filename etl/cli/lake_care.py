"""``groundlake lake compact|checkpoint|vacuum``: care of the tables, by hand or by the ``maintain`` DAG."""

from __future__ import annotations

from typing import Annotated

import typer

from etl.cli.common import LakeOption, open_context, out
from etl.errors import UnknownNameError

TableOption = Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``groundlake lake``."""
    for command in (compact, checkpoint, vacuum):
        app.command(command.__name__)(command)


def compact(table: TableOption = None, lake: LakeOption = None) -> None:
    """Merge small files of the tables. Safe beside running stages and beside itself.

    For example:

        groundlake lake compact

        groundlake lake compact --table instances
    """
    from etl.lake import maintenance

    context = open_context(lake)
    for name in _tables(table):
        result = maintenance.compact(context.lake, name)
        out.print(f"{name}: {result.files_before} files -> {result.files_after}")


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
    retention_days: Annotated[int, typer.Option("--retention-days", help="Keep what younger versions name.")] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    lake: LakeOption = None,
) -> None:
    """Delete files that rewrites replaced and that no recent version and no built manifest names.

    For example:

        groundlake lake vacuum --dry-run

        groundlake lake vacuum --retention-days 30
    """
    from etl.lake import maintenance

    context = open_context(lake)
    for name in _tables(table):
        gone = maintenance.vacuum(context.lake, name, retention_hours=24 * retention_days, dry_run=dry_run)
        out.print(f"{name}: {len(gone)} files {'would be deleted' if dry_run else 'deleted'}")


def _tables(chosen: list[str] | None) -> list[str]:
    from etl.lake.schemas import TABLES

    for name in chosen or ():
        if name not in TABLES:
            raise UnknownNameError("table", name, list(TABLES))
    return chosen or list(TABLES)
