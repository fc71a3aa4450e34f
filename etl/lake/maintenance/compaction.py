"""Many small files into few large ones, kept sorted by shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltalake import DeltaTable

from etl.lake.lake import Lake
from etl.lake.maintenance.files import DataFile, data_files
from etl.lake.maintenance.merge import merged
from etl.lake.maintenance.progress import Tell, silent
from etl.lake.maintenance.rewrite import Change, rewrite

TARGET_BYTES = 128 << 20


@dataclass(frozen=True)
class Compacted:
    """Files of a table before and after its compaction."""

    table: str
    files_before: int
    files_after: int


def compact(
    lake: Lake,
    name: str,
    *,
    target_bytes: int = TARGET_BYTES,
    tell: Tell = silent,
) -> Compacted:
    """Merge small files of a table, a group at a time, keeping it sorted by shard within a file.

    May run beside appends, beside itself and on another machine: no row is lost or doubled. Killed anywhere it leaves
    the table as it is, and at most a part that sweep finds.

    Args:
        lake: The lake.
        name: The table.
        target_bytes: Size up to which files are merged. Memory holds the encoded files of a few neighbouring shards.
        tell: Told how many of the small files are merged.

    Raises:
        RewriteConflictError: Other rewrites were faster every time.
        DataError: A file has other rows than the log says; nothing was changed.
    """
    before = data_files(lake.table(name))
    total, done = sum(one.size < target_bytes // 2 for one in before), 0

    def step(table: DeltaTable) -> Change | None:
        group = choose_group(data_files(table), target_bytes)
        return Change(group, [merged(lake, name, group)], same_rows=True) if group else None

    def count(change: Change, _: object) -> None:
        nonlocal done
        done += len(change.removed)
        tell(min(done, total), total)

    rewrite(lake, name, step, count)
    return Compacted(name, len(before), len(data_files(lake.table(name))))


def choose_group(files: Sequence[DataFile], target: int) -> list[DataFile]:
    """The first neighbours, by shard, that fit together into one file of the target size; empty when none do."""
    group: list[DataFile] = []
    size = 0
    for one in sorted((f for f in files if f.size < target // 2), key=lambda f: (f.first, f.path)):
        if group and size + one.size > target:
            if len(group) > 1:
                return group
            group, size = [], 0
        group.append(one)
        size += one.size
    return group if len(group) > 1 else []
