"""The ``groundlake`` command. Each subcommand lives in a module of its own and imports what is heavy when it runs."""

from __future__ import annotations

from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

from etl import __version__
from etl.cli import annotate, demo, ingest, lake, manifest, models, stage, takedown, truth, view
from etl.cli.common import errors_end_the_process
from etl.cli.doctor import doctor
from etl.cli.evaluate import evaluate
from etl.cli.parity import parity
from etl.cli.sql import sql
from etl.cli.status import status


class InOrderOfUse(TyperGroup):
    """Lists the commands in the order in which a newcomer meets them."""

    ORDER: ClassVar = (
        "lake",
        "ingest",
        "annotate",
        "truth",
        "manifest",
        "sql",
        "status",
        "eval",
        "view",
        "models",
        "parity",
        "takedown",
        "stage",
        "doctor",
    )

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: (*self.ORDER, name).index(name))


app = typer.Typer(
    name="groundlake",
    cls=InOrderOfUse,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Image urls in; tags, boxes, masks and captions in Delta tables; SQL out to training manifests.

Start in three commands, no Airflow needed:

    groundlake lake init my-lake && cd my-lake

    groundlake ingest run --urls urls.parquet --url-col url --caption-col caption --source mine

    groundlake annotate run --source mine
""",
)
app.add_typer(lake.app, name="lake")
app.add_typer(ingest.app, name="ingest")
app.add_typer(annotate.app, name="annotate")
app.add_typer(truth.app, name="truth")
app.add_typer(stage.app, name="stage")
app.add_typer(models.app, name="models")
app.add_typer(manifest.app, name="manifest")
app.add_typer(takedown.app, name="takedown")
app.command("sql")(sql)
app.command("status")(status)
app.command("eval")(evaluate)
app.add_typer(view.app, name="view")
app.command("parity")(parity)
app.command("doctor")(doctor)
app.add_typer(demo.app, name="demo")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"groundlake {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True)) -> None:
    pass


def main() -> None:
    """Entry point of the console script; exit codes are those of ``etl.errors``."""
    with errors_end_the_process():
        app()


if __name__ == "__main__":
    main()
