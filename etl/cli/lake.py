"""``groundlake lake``: make a lake and take care of its tables."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from etl.cli.common import LakeOption, open_context, out
from etl.errors import ConfigurationError, UnknownNameError
from etl.settings import load_settings
from etl.settings.project import FILE_NAME

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Make a lake and take care of its tables.")

TableOption = Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")]


@app.command("init")
def init(
    place: Annotated[str, typer.Argument(metavar="[FOLDER|URI]", help="Where the lake is to lie.")] = ".",
) -> None:
    """Make a lake. In a folder it also writes groundlake.yaml, so that commands inside need no --lake.

    A lake that exists is left as it is; tables it lacks are added.

    For example:

        groundlake lake init my-lake && cd my-lake

        groundlake lake init s3://bucket/lake
    """
    from etl.lake import Lake
    from etl.lake.lake import MARKER
    from etl.storage import open_store

    settings = load_settings()
    uri = place if "://" in place else str(Path(place).expanduser().resolve())
    if Path(uri).is_file():
        raise ConfigurationError(f"{place} is a file", remedy="name a folder that is to be the lake")
    existed = open_store(uri).stat(MARKER) is not None
    if existed:
        Lake.open(uri, settings)  # refuses one that a newer groundlake wrote
    Lake.create(uri, settings)
    folder = None if "://" in place else Path(uri)
    if folder:
        _write_project(folder)
    out.print(f"{'there is a lake already' if existed else 'new lake'}: {uri}", markup=False)
    _teach(folder, uri)


def _write_project(folder: Path) -> None:
    for kind in ("sources", "models", "manifests"):
        (folder / "catalog" / kind).mkdir(parents=True, exist_ok=True)
    file = folder / FILE_NAME
    if not file.exists():
        file.write_text("lake: .\ncatalog: catalog\n")


def _teach(folder: Path | None, uri: str) -> None:
    if folder and folder != Path.cwd():
        out.print("next:", f"cd {shlex.quote(str(folder))}", sep="\n  ", markup=False)
    elif not folder:
        out.print("next:", f"export GROUNDLAKE_LAKE={shlex.quote(uri)}", sep="\n  ", markup=False)
    else:
        out.print("next:")
    out.print("  groundlake ingest run --urls urls.parquet --url-col url --caption-col caption --source mine")


@app.command("compact")
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


@app.command("checkpoint")
def checkpoint(table: TableOption = None, lake: LakeOption = None) -> None:
    """Write a checkpoint of each table's log, so that opening it stays fast.

    For example:

        groundlake lake checkpoint
    """
    from etl.lake import maintenance

    context = open_context(lake)
    for name in _tables(table):
        out.print(f"{name}: checkpoint at version {maintenance.checkpoint(context.lake, name)}")


@app.command("vacuum")
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


@app.command("stats")
def stats(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, lake: LakeOption = None
) -> None:
    """Rows, files, bytes and version of every table.

    For example:

        groundlake lake stats
    """
    from dataclasses import asdict

    from rich.table import Table

    from etl.lake import maintenance

    context = open_context(lake)
    found = maintenance.stats(context.lake)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    shown = Table(title=f"tables of {context.lake.uri}", title_justify="left")
    for column in ("table", "rows", "files", "bytes", "version"):
        shown.add_column(column, justify="left" if column == "table" else "right")
    for one in found:
        shown.add_row(one.table, f"{one.rows:,}", f"{one.files:,}", f"{one.bytes:,}", str(one.version))
    out.print(shown)


def _tables(chosen: list[str] | None) -> list[str]:
    from etl.lake.schemas import TABLES

    for name in chosen or ():
        if name not in TABLES:
            raise UnknownNameError("table", name, list(TABLES))
    return chosen or list(TABLES)
