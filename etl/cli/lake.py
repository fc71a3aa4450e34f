"""``groundlake lake``: make a lake and take care of its tables."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from etl.cli import lake_care, lake_check
from etl.cli.common import LakeOption, open_context, out
from etl.errors import ConfigurationError
from etl.settings import load_settings
from etl.settings.project import FILE_NAME

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Make a lake and take care of its tables.")
lake_care.register(app)
lake_check.register(app)


@app.command("init")
def init(
    place: Annotated[str, typer.Argument(metavar="[FOLDER|URI]", help="Where the lake is to lie.")] = ".",
) -> None:
    """Make a lake. In a folder it also writes groundlake.yaml, so that commands inside need no --lake.

    A lake that exists keeps what it holds; tables and columns it lacks are added, as by 'groundlake lake upgrade'.

    For example:

        groundlake lake init my-lake && cd my-lake

        groundlake lake init s3://bucket/lake
    """
    from etl.lake import Lake
    from etl.lake.migrations import read_marker
    from etl.storage import open_store

    settings = load_settings()
    uri = place if "://" in place else str(Path(place).expanduser().resolve())
    if Path(uri).is_file():
        raise ConfigurationError(f"{place} is a file", remedy="name a folder that is to be the lake")
    existed = read_marker(open_store(uri)) is not None  # refuses one that a newer groundlake wrote
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


@app.command("upgrade")
def upgrade(lake: LakeOption = None) -> None:
    """Bring a lake that an older groundlake made to this one's schema: new tables and columns, nothing is changed.

    May run while others write, and again after it was stopped. Until it has ended, commands of this groundlake that
    only read the lake (sql, status, view) work, and those that write are refused; afterwards, older ones are refused.

    For example:

        groundlake lake upgrade
    """
    from etl.lake import migrations

    context = open_context(lake, reading=True)
    done = migrations.upgrade(context.lake.store, deadline=context.settings.commit_deadline)
    for step in done:
        out.print(step, markup=False)
    if not done:
        out.print(f"nothing to do: {context.lake.uri} has schema {context.lake.schema_version}", markup=False)


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
