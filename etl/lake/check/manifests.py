"""What else the lake says it has: manifests with their locks, and the columns of this groundlake's schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from etl.lake.check.bench import Bench
from etl.lake.check.findings import NOTE, Finding, Progress, Tally
from etl.lake.schemas import SCHEMA_VERSION, TABLES

_LOCK = "manifest.lock.json"
_UPGRADE = "groundlake lake upgrade: it only adds, and may run while others write"


def check_manifests(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """Registered manifests lie where they were built. One that was moved or deleted breaks nothing in the lake."""
    if not bench.has("manifests"):
        return
    with bench.connect() as connection:
        rows = connection.execute("select name, version, path from raw.manifests order by all").fetchall()
    missing = Tally()
    for number, (name, version, path) in enumerate(rows):
        progress(number, len(rows))
        if not _is_there(bench, path):
            missing.add(f"{name}/{version} at {path}")
    message = "manifests are registered, but their lock is not where they were built"
    remedy = f"nothing, if they were moved or deleted; {_LOCK} in table manifests says how to build them again"
    yield from missing.finding("manifests.lock", message, remedy, NOTE)


def _is_there(bench: Bench, path: str) -> bool:
    if PurePosixPath(path).is_absolute():
        return (Path(path) / _LOCK).is_file()
    return bench.lake.store.stat(f"{path}/{_LOCK}") is not None


def check_schema(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """The lake is of this groundlake's schema, and every table has its columns."""
    known = bench.lake.schema_version
    if known < SCHEMA_VERSION:
        message = f"the lake has schema {known}, this groundlake knows {SCHEMA_VERSION}"
        yield Finding("schema.version", NOTE, message, 1, "lake.json", _UPGRADE)
    lacking = Tally()
    for number, name in enumerate(bench.tables):
        progress(number, len(bench.tables))
        present = {field.name for field in bench.lake.table(name).schema().fields}
        for column in TABLES[name].columns:
            if column.name not in present and column.since <= known:
                lacking.add(f"{name}.{column.name}")
    yield from lacking.finding("schema.columns", "tables lack columns of the lake's schema", _UPGRADE)
