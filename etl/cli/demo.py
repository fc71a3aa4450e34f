"""``groundlake demo``: the whole system on this machine, from a generated picture source to training manifests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from etl.demo.report import Report

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The whole system on this machine: pictures served on loopback, a real Airflow, a lake in `.demo/`.",
)

Root = Annotated[
    Path, typer.Option("--root", help="Folder that gets `.demo/` and `groundlake.yaml`.", exists=True, file_okay=False)
]


@app.command("run")
def run_command(root: Root = Path()) -> None:
    """From urls to training manifests through Airflow, then a summary; again: only what is new.

    Example: `groundlake demo run` (the same as `make demo`)
    """
    from etl.demo.demo import run

    run(root, _report())


@app.command("ui")
def ui_command(root: Root = Path()) -> None:
    """Keep the demo's Airflow running; prints address, login and password. Ctrl-C stops it.

    Example: `groundlake demo ui` (the same as `make ui`)
    """
    from etl.demo.demo import ui

    ui(root, _report())


@app.command("stop")
def stop_command(root: Root = Path()) -> None:
    """Stop the demo of this folder and everything it started, also what a killed one left.

    Example: `groundlake demo stop` (the same as `make stop`)
    """
    from etl.demo.demo import stop

    stop(root, _report())


def _report() -> Report:
    from etl.cli.common import out
    from etl.demo.report import Report

    return Report(out)
