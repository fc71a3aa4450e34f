"""Care for the tables: compaction, checkpoints, vacuum, sizes.

Every rewrite is one guarded transaction: the files it read are removed and the new ones added on the very handle that
was read, under the app id ``maintain``. delta-rs's own ``optimize`` doubles rows when two of them overlap; here one of
the two is refused and looks again.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import exceptions as delta
from deltalake.transaction import AddAction, RemoveAction

from etl.errors import ConfigurationError, DataError, RetryableError
from etl.lake.lake import Lake
from etl.lake.parts import add_action, table_key, write_part
from etl.lake.schemas import TABLES

APP = "maintain"
TARGET_BYTES = 128 << 20
MIN_RETENTION_HOURS = 7 * 24
_TRIES = 50


@dataclass(frozen=True)
class DataFile:
    """A file of a table's present version; ``first`` is its smallest shard or image id, by which files are ordered."""

    path: str
    size: int
    rows: int
    first: str


@dataclass(frozen=True)
class TableStats:
    """How large a table is at its present version."""

    table: str
    version: int
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Compacted:
    """Files of a table before and after its compaction."""

    table: str
    files_before: int
    files_after: int


class RewriteConflictError(RetryableError):
    """A rewrite met other rewrites of the same table at every try."""


def data_files(table: DeltaTable) -> list[DataFile]:
    """The files of the version that a handle has read."""
    rows = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return [
        DataFile(
            path=row["path"],
            size=row["size_bytes"],
            rows=row["num_records"] or 0,
            first=str(row.get("min.shard_id") or row.get("min.image_id") or ""),
        )
        for row in rows
    ]


def stats(lake: Lake) -> list[TableStats]:
    """Rows, files and bytes of every table."""
    found = []
    for name in TABLES:
        table = lake.table(name)
        files = data_files(table)
        rows, size = sum(one.rows for one in files), sum(one.size for one in files)
        found.append(TableStats(name, table.version(), rows, len(files), size))
    return found


def compact(lake: Lake, name: str, *, target_bytes: int = TARGET_BYTES) -> Compacted:
    """Merge small files of a table, a group at a time, keeping it sorted by shard within a file.

    May run beside appends, beside itself and on another machine: no row is lost or doubled.

    Args:
        lake: The lake.
        name: The table.
        target_bytes: Size up to which files are merged; memory holds one such group.

    Raises:
        RewriteConflictError: Other rewrites were faster every time.
        DataError: A file has other rows than the log says; nothing was changed.
    """
    before = len(data_files(lake.table(name)))
    conflicts, last = 0, None
    while conflicts < _TRIES:
        table = lake.table(name)
        group = _group(data_files(table), target_bytes)
        if not group:
            return Compacted(name, before, len(data_files(table)))
        done, error = _rewrite(lake, name, table, group)
        if not done:
            conflicts, last = conflicts + 1, error
            time.sleep(random.uniform(0, 0.1 * conflicts))  # noqa: S311 - jitter, not a secret
    raise RewriteConflictError(
        f"table {name!r} could not be rewritten in {_TRIES} tries: {last}", remedy="try again later; no row changed"
    ) from last


def _group(files: Sequence[DataFile], target: int) -> list[DataFile]:
    """The first neighbours, by shard, that fit together into one file of the target size; empty when none do."""
    group: list[DataFile] = []
    for one in sorted((f for f in files if f.size < target // 2), key=lambda f: (f.first, f.path)):
        if group and sum(f.size for f in group) + one.size > target:
            if len(group) > 1:
                return group
            group = []
        group.append(one)
    return group if len(group) > 1 else []


def _rewrite(lake: Lake, name: str, table: DeltaTable, group: Sequence[DataFile]) -> tuple[bool, Exception | None]:
    """Replace the files of a group by one; returns whether it is there, and what the commit raised.

    A part whose commit was not seen stays where it is: a slow store may still take it.
    """
    rows = pa.concat_tables([_read(lake, name, one) for one in group])
    number = (table.transaction_version(APP) or 0) + 1
    part = write_part(lake.store, name, rows, f"{APP}-{number:08d}", "00000")
    now = int(time.time() * 1000)
    removed = [RemoveAction(one.path, False, now, size=one.size, partition_values={}) for one in group]
    raised: Exception | None = None
    try:
        table.create_write_transaction(
            [_unchanged(add_action(lake.store, part)), *removed],
            "append",
            table.schema(),
            commit_properties=CommitProperties(app_transactions=[Transaction(APP, number)], max_commit_retries=50),
        )
    except (delta.DeltaError, OSError) as error:  # refused, or committed without our hearing of it: the log knows
        raised = error
    return any(one.path == part.path for one in data_files(lake.table(name))), raised


def _read(lake: Lake, name: str, one: DataFile) -> pa.Table:
    schema = TABLES[name].schema
    rows = pq.read_table(pa.BufferReader(lake.store.read(f"{table_key(name)}/{one.path}")))
    if rows.num_rows != one.rows:
        raise DataError(
            f"{name}: {one.path} holds {rows.num_rows} rows, its log entry says {one.rows}; nothing was changed",
            remedy="restore that file from a backup, or redo the unit that wrote it",
        )
    for field in schema:
        if field.name not in rows.column_names:  # written before the column was added
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(schema.names).cast(schema)


def _unchanged(action: AddAction) -> AddAction:
    """The same file, marked as rows that were there before."""
    return AddAction(action.path, action.size, {}, action.modification_time, False, action.stats)


def checkpoint(lake: Lake, name: str) -> int:
    """Write a checkpoint, so that readers need not replay the log; returns the version."""
    table = lake.table(name)
    table.create_checkpoint()
    return int(table.version())


def pinned_versions(lake: Lake, name: str) -> list[int]:
    """Versions of a table that built manifests were made from."""
    locks = lake.table("manifests").to_pyarrow_table(columns=["lock"])["lock"].to_pylist()
    return sorted({int(json.loads(lock)["tables"][name]) for lock in locks})


def vacuum(lake: Lake, name: str, *, retention_hours: int = MIN_RETENTION_HOURS, dry_run: bool = False) -> list[str]:
    """Delete files that no version younger than the retention and no built manifest names; returns their paths.

    Only files that a rewrite removed are candidates, never parts that wait for their commit.

    Raises:
        ConfigurationError: The retention is shorter than seven days, or a pinned version cannot be opened.
    """
    if retention_hours < MIN_RETENTION_HOURS:
        raise ConfigurationError(
            f"retention {retention_hours} h is shorter than {MIN_RETENTION_HOURS} h (7 days)",
            remedy="readers and running orders may still need those files; choose 168 or more",
        )
    return _vacuum(lake, name, retention_hours, dry_run)


def _vacuum(lake: Lake, name: str, retention_hours: int, dry_run: bool) -> list[str]:
    keep: list[Any] = pinned_versions(lake, name)
    for version in keep:
        lake.table(name, version)  # raises typed, where delta-rs would not say which
    return lake.table(name).vacuum(
        retention_hours, dry_run=dry_run, enforce_retention_duration=False, full=False, keep_versions=keep or None
    )
