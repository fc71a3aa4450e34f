"""``groundlake lake check|backup|restore``: whether a lake is whole, and a copy of it elsewhere."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import LakeOption, err, out
from etl.cli.lake_care import TableOption
from etl.cli.progress import counted
from etl.errors import EXIT_BAD_DATA, UnknownNameError
from etl.settings import load_settings

if TYPE_CHECKING:
    from etl.lake import Lake
    from etl.lake.backup import Copied
    from etl.lake.check import Finding


def register(app: typer.Typer) -> None:
    """Add the commands to ``groundlake lake``."""
    for command in (check, backup, restore):
        app.command(command.__name__)(command)


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


def backup(
    to: Annotated[str, typer.Argument(metavar="TO", help="Folder or uri: empty, or an earlier backup of this lake.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Also delete from the backup what the lake no longer has.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Copy the lake to another place as it is now, beside running stages; again, only what is new. Killed, it resumes.

    The copy holds what this lake can read: the newest state, versions that manifests pin, older ones within the
    retention, and open orders. It is a lake itself, to be looked at but not worked on.

    Without --prune the backup keeps what was deleted here, pictures taken down since among it; with it they go too,
    once 'groundlake takedown purge' has deleted them here.

    For example:

        groundlake lake backup s3://bucket/backup

        groundlake lake backup /mnt/disk/backup --prune
    """
    from etl.lake.backup import backup as copy

    with counted("backup", "objects") as tell:
        copied = copy(_open(lake), _uri(to), prune=prune, tell=tell)
    gone = f", {copied.pruned:,} deleted that the lake no longer has" if prune else ""
    out.print(f"backup in {to}: {_said(copied)}{gone}", markup=False)
    out.print(f"to look at it: groundlake lake check --lake {shlex.quote(_uri(to))}", markup=False)


def restore(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Folder or uri of a backup.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="Folder or uri: empty, or a restore that did not end.")],
) -> None:
    """Make a lake of a backup, in an empty place. Killed, it resumes when it is run again.

    Pictures taken down after the backup was made are back, and no longer known to be taken down: ask for them again.

    For example:

        groundlake lake restore s3://bucket/backup my-lake
    """
    from etl.lake.backup import restore as copy

    with counted("restore", "objects") as tell:
        copied = copy(_uri(source), _uri(to), load_settings(), tell=tell)
    out.print(f"lake in {to}: {_said(copied)}", markup=False)
    out.print(f"next: groundlake lake check --lake {shlex.quote(_uri(to))}", markup=False)


def _uri(place: str) -> str:
    return place if "://" in place else str(Path(place).expanduser().resolve())


def _said(copied: Copied) -> str:
    return f"{copied.objects:,} objects copied ({copied.bytes:,} bytes), {copied.skipped:,} were there"


def _open(uri: str | None) -> Lake:
    """The lake to look at, one of an older schema too."""
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
