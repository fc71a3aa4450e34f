"""Many small files into few large ones, kept sorted by shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable

from etl.lake.lake import Lake
from etl.lake.maintenance.files import DataFile, data_files, read_file
from etl.lake.maintenance.rewrite import Change, rewrite

TARGET_BYTES = 128 << 20


@dataclass(frozen=True)
class Compacted:
    """Files of a table before and after its compaction."""

    table: str
    files_before: int
    files_after: int


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

    def step(table: DeltaTable) -> Change | None:
        group = _group(data_files(table), target_bytes)
        if not group:
            return None
        return Change(group, [pa.concat_tables([read_file(lake, name, one) for one in group])], same_rows=True)

    before = len(data_files(lake.table(name)))
    rewrite(lake, name, step)
    return Compacted(name, before, len(data_files(lake.table(name))))


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
