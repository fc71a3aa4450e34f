"""The checks in their order: what the later ones read, the earlier ones have looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from etl.errors import DataError, GroundlakeError
from etl.lake.check.bench import Bench
from etl.lake.check.files import check_content, check_files
from etl.lake.check.findings import ERROR, NOTE, Finding, Progress, Scope
from etl.lake.check.logs import inspect_log
from etl.lake.check.manifests import check_manifests, check_schema
from etl.lake.check.orphans import check_orphans
from etl.lake.check.pictures import check_pictures
from etl.lake.check.rows import check_rows
from etl.lake.check.units import check_orders, check_units
from etl.lake.lake import Lake
from etl.lake.schemas import TABLES

Show = Callable[[str, str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Phase:
    """A check: its name, what its progress counts, and the function that runs it."""

    name: str
    unit: str
    run: Callable[[Bench, Progress], Iterator[Finding]]


def check_logs(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """The logs of all tables, whatever the scope: the other checks read every table. None of them is opened for it."""
    names = [name for name in TABLES if bench.lake.has(name)]
    for number, name in enumerate(names):
        progress(number, len(names))
        found = list(inspect_log(bench.lake.store, name, everything=bench.scope.everything and bench.has(name)))
        yield from found
        if not found:
            yield from _opens(bench.lake, name)
    progress(len(names), len(names))


def _opens(lake: Lake, name: str) -> Iterator[Finding]:
    try:
        lake.table(name)
    except GroundlakeError as error:
        remedy = "groundlake doctor looks at the place; else restore the lake from a backup"
        yield Finding("log.table", ERROR, f"table {name} cannot be opened", 1, error.message, remedy)


PHASES = (
    Phase("logs", "tables", check_logs),
    Phase("schema", "tables", check_schema),
    Phase("files", "tables", check_files),
    Phase("contents", "files", check_content),
    Phase("rows", "rules", check_rows),
    Phase("orphans", "rules", check_orphans),
    Phase("units", "units", check_units),
    Phase("orders", "orders", check_orders),
    Phase("pictures", "pictures", check_pictures),
    Phase("manifests", "manifests", check_manifests),
)


def check(lake: Lake, scope: Scope, show: Show | None = None) -> Iterator[Finding]:
    """Check a lake, beside whoever writes to it.

    Args:
        lake: The lake.
        scope: How far to go.
        show: Called with the name of each check and what it counts; shows its progress while it runs.

    Raises:
        GroundlakeError: The store or the SQL engine failed, and nothing found so far explains it.
    """
    errors, left_out = 0, dict[str, list[str]]()
    with Bench(lake, scope) as bench:
        for phase in PHASES:
            with show(phase.name, phase.unit) if show else nullcontext(_silent) as progress:
                try:
                    for finding in phase.run(bench, progress):
                        errors += finding.severity == ERROR
                        yield finding
                except GroundlakeError as error:
                    if not errors and not isinstance(error, DataError):
                        raise
                    left_out.setdefault(_first_line(error), []).append(phase.name)
    for cause, names in left_out.items():
        remedy = (
            "mend what was found, then check again" if errors else "groundlake lake check --all names what is broken"
        )
        message = f"not checked: {', '.join(names)}"
        yield Finding("check.left_out", NOTE if errors else ERROR, message, len(names), cause, remedy)


def _first_line(error: GroundlakeError) -> str:
    return error.message.splitlines()[0]


def _silent(done: int, total: int) -> None:
    """No progress is shown."""
