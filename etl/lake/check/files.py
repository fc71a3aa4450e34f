"""Every data file that a log names exists, with its size; and with everything, holds what the log says of it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from etl.errors import ConfigurationError
from etl.lake.check.bench import Bench
from etl.lake.check.findings import Finding, Progress, Tally
from etl.lake.lake import Lake
from etl.lake.parts import data_paths, table_key
from etl.lake.pins import pinned_versions
from etl.lake.remaps import read_remaps, resolve
from etl.lake.schemas import TABLES
from etl.storage import NotFoundError

_PARTS = "parts/"
_RESTORE = "restore these files from a backup; or restore the whole lake: groundlake lake restore FROM TO"


def check_files(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """Compare the files that the newest and the pinned versions name with those that are listed."""
    pinned, remaps = pinned_versions(bench.lake), read_remaps(bench.lake)
    for number, name in enumerate(bench.tables):
        progress(number, len(bench.tables))
        expected = active_files(bench.lake.table(name, bench.snapshot.versions[name]))
        yield from compare_files(bench.lake, name, expected, broken=bench.broken)
        wanted: dict[str, int | None] = {}
        for version in pinned.get(name, []):
            try:
                paths = data_paths(bench.lake.table(name, version))
            except ConfigurationError as error:
                message = f"table {name}: a version that a built manifest pins cannot be opened"
                yield Finding("files.pinned", "error", message, 1, f"version {version}: {error.message}", _RESTORE)
                continue
            wanted |= dict.fromkeys(path for path in resolve(paths, remaps.get(name, {})) if path not in expected)
        yield from compare_files(bench.lake, name, wanted, pinned=True)
    progress(len(bench.tables), len(bench.tables))


def active_files(table: DeltaTable) -> dict[str, int | None]:
    """Path inside the table -> bytes of the files that the version of a handle names."""
    actions = pa.table(table.get_add_actions(flatten=True))
    paths, sizes = actions["path"].to_pylist(), actions["size_bytes"].to_pylist()
    return {unquote(path): size for path, size in zip(paths, sizes, strict=True)}


def compare_files(
    lake: Lake,
    name: str,
    expected: Mapping[str, int | None],
    *,
    pinned: bool = False,
    broken: set[str] | None = None,
) -> Iterator[Finding]:
    """What is wrong with the files of a table, by one listing.

    Args:
        lake: The lake.
        name: The table.
        expected: Path inside the table -> bytes, or None where any size will do.
        pinned: Whether they are those of pinned versions.
        broken: Takes the keys of those that are not as they should be.
    """
    if not expected:
        return
    broken = set() if broken is None else broken
    waiting, other = dict(expected), Tally()
    for one in lake.store.list(f"{table_key(name)}/{_PARTS}"):
        path = one.key.removeprefix(f"{table_key(name)}/")
        if path in waiting and waiting.pop(path) not in (None, one.size):
            broken.add(one.key)
            other.add(f"{one.key}: {one.size} bytes, its log says {expected[path]}")
    missing = Tally()
    for path in waiting:  # a table that another program wrote may have files elsewhere
        if path.startswith(_PARTS) or lake.store.stat(f"{table_key(name)}/{path}") is None:
            broken.add(f"{table_key(name)}/{path}")
            missing.add(f"{table_key(name)}/{path}")
    check, whose = ("files.pinned", "that built manifests pin ") if pinned else ("files.active", "")
    yield from missing.finding(check, f"table {name}: data files {whose}are missing", _RESTORE)
    yield from other.finding(check, f"table {name}: data files {whose}have another size than its log says", _RESTORE)


def check_content(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """Read every data file to the end, and compare its rows and extremes with those its log entry gives."""
    if not bench.scope.everything:
        return
    actions = {name: _actions(bench, name) for name in bench.tables}
    total, done = sum(map(len, actions.values())), 0
    for name, entries in actions.items():
        unreadable, wrong = Tally(), Tally()
        for path, stats in entries:
            progress(done, total)
            done += 1
            problem = _content_problem(bench.lake, name, path, stats)
            if problem is None:
                continue
            if problem.startswith("unreadable"):
                bench.broken.add(f"{table_key(name)}/{path}")
                unreadable.add(f"{path}: {problem}")
            else:
                wrong.add(f"{path}: {problem}")
        yield from unreadable.finding("files.content", f"table {name}: data files cannot be read", _RESTORE)
        message = f"table {name}: data files hold other rows than their log entries say, so that readers skip rows"
        yield from wrong.finding("files.content", message, _RESTORE)
    progress(total, total)


def _actions(bench: Bench, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    rows = pa.table(bench.lake.table(name, bench.snapshot.versions[name]).get_add_actions(flatten=True)).to_pylist()
    return [(unquote(row["path"]), row) for row in rows]


def _content_problem(lake: Lake, name: str, path: str, told: Mapping[str, Any]) -> str | None:
    columns = TABLES[name].statistics
    try:
        file = pq.ParquetFile(io.BytesIO(lake.store.read(f"{table_key(name)}/{path}")))
        kept = [batch.select([c for c in columns if c in batch.schema.names]) for batch in file.iter_batches()]
    except NotFoundError:
        return None  # check_files says so
    except (pa.ArrowException, OSError) as error:
        return f"unreadable: {error}"
    rows = sum(batch.num_rows for batch in kept)
    if rows != told["num_records"]:
        return f"{rows} rows, its log entry says {told['num_records']}"
    if not rows:
        return None
    read = pa.Table.from_batches(kept)
    for column in read.column_names:
        extremes = pc.min_max(read[column]).as_py()
        found = (extremes["min"], extremes["max"], read[column].null_count)
        said = tuple(told.get(f"{kind}.{column}") for kind in ("min", "max", "null_count"))
        if found != said:
            return f"{column} is {found[0]} … {found[1]}, its log entry says {said[0]} … {said[1]}"
    return None
