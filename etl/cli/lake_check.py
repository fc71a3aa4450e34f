"""``groundlake lake check|backup|restore``: whether a lake is whole, and a copy of it elsewhere."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import LakeOption, err, out
from etl.cli.lake_care import TableOption
from etl.cli.progress import counted
from etl.errors import EXIT_BAD_DATA, UnknownNameError
from etl.settings import load_settings

if TYPE_CHECKING:
    from etl.lake import Lake
    from etl.lake.check import Finding


def register(app: typer.Typer) -> None:
    """Add the commands to ``groundlake lake``."""
    app.command("check")(check)


def check(
    table: TableOption = None,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Pictures, and units, to look at one by one.")] = 100,
    everything: Annotated[
        bool, typer.Option("--all", help="All of them, every log entry, every row of files.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Look at the sample of an earlier check again.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="First mend torn logs and units committed in part; deletes nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lake: LakeOption = None,
) -> None:
    """Look for damage: logs, files, rows, pictures, orders. Safe beside running stages; ends with 65 if it finds any.

    Says what it found, how many, one of them, and the command that repairs it. Notes, such as work in progress, are no
    damage.

    For example:

        groundlake lake check

        groundlake lake check --all --json
    """
    from etl.lake.check import ERROR, Scope
    from etl.lake.check import check as run

    place = _open(lake)
    for line in _repaired(place, _tables(table)) if repair else ():
        err.print(line, markup=False)
    seed = random.randrange(1_000_000) if seed is None else seed  # noqa: S311 - a sample, not a secret
    scope = Scope(_tables(table), sample=sample, everything=everything, seed=seed)
    found: list[Finding] = []
    for finding in run(place, scope, counted):
        found.append(finding)
        if not as_json:
            _show(finding)
    errors = sum(one.severity == ERROR for one in found)
    if as_json:
        typer.echo(json.dumps({"clean": not errors, "seed": seed, "findings": [asdict(one) for one in found]}))
    else:
        _summarise(place, found, errors, "everything" if everything else f"sample of {sample}, --seed {seed}")
    if errors:
        raise typer.Exit(EXIT_BAD_DATA)


def _open(uri: str | None) -> Lake:
    """The lake to look at, one of an older schema too."""
    from pathlib import Path

    from etl.lake import Lake
    from etl.settings import resolve_lake_uri

    settings = load_settings()
    return Lake.open(resolve_lake_uri(uri, settings, Path.cwd()), settings, reading=True)


def _tables(chosen: list[str] | None) -> tuple[str, ...]:
    from etl.lake.schemas import TABLES

    for name in chosen or ():
        if name not in TABLES:
            raise UnknownNameError("table", name, list(TABLES))
    return tuple(chosen or TABLES)


def _repaired(lake: Lake, tables: tuple[str, ...]) -> Sequence[str]:
    from etl.lake.check import repair

    return list(repair(lake, tables)) or ["nothing to repair without a backup"]


def _show(finding: Finding) -> None:
    colour = "red" if finding.severity == "error" else "yellow"
    out.print(f"[bold {colour}]{finding.severity}[/] {finding.check}: ", end="")
    out.print(f"{finding.message}: {finding.count:,}", markup=False)
    out.print(f"  such as {finding.example}", f"  -> {finding.remedy}", sep="\n", markup=False)


def _summarise(lake: Lake, found: Sequence[Finding], errors: int, scope: str) -> None:
    notes = len(found) - errors
    state = f"{errors} findings" if errors else "no damage found"
    out.print(f"{lake.uri}: {state}, {notes} notes ({scope})", markup=False)
