"""Deleting files that rewrites replaced, once no version that anyone may still read names them."""

from __future__ import annotations

from dataclasses import dataclass

from deltalake import DeltaTable
from deltalake import exceptions as delta

from etl.errors import ConfigurationError
from etl.lake.lake import Lake
from etl.lake.maintenance.progress import Tell, silent
from etl.lake.parts import data_paths, table_key
from etl.lake.pins import pinned_files
from etl.storage import ObjectInfo, StorageError

MIN_RETENTION_DAYS = 7


@dataclass(frozen=True)
class Vacuumed:
    """What a vacuum deleted, or would: paths inside the table, and their bytes together."""

    table: str
    paths: tuple[str, ...]
    bytes: int


def vacuum(
    lake: Lake,
    name: str,
    *,
    retention_days: int | None = None,
    dry_run: bool = False,
    tell: Tell = silent,
) -> Vacuumed:
    """Delete files that no version younger than the retention and no built manifest names.

    Only files that a rewrite removed are candidates, never parts that wait for their commit. Any number may run at
    once, beside anything; killed, it has deleted some of the files, and the next one deletes the others. On a local
    disk the emptied folders stay: a writer may be about to use one.

    Args:
        lake: The lake.
        name: The table.
        retention_days: Days that older versions stay readable; the setting by default.
        dry_run: Only say what would be deleted.
        tell: Told how many of the files are deleted.

    Raises:
        ConfigurationError: The retention is shorter than seven days, or a pinned version cannot be opened.
        StorageError: The store failed.
    """
    days = lake.settings.retention_days if retention_days is None else retention_days
    if days < MIN_RETENTION_DAYS:
        raise ConfigurationError(
            f"a retention of {days} days is shorter than {MIN_RETENTION_DAYS} days",
            remedy=f"readers and running orders may still need those files; choose {MIN_RETENTION_DAYS} or more",
        )
    expired = set(_tombstoned(lake, name, lake.table(name), 24 * days))
    found = sorted(_existing(lake, name, expired - pinned_files(lake, name)), key=lambda one: one.key)
    prefix = f"{table_key(name)}/"
    if not dry_run and found:
        present = set(data_paths(lake.table(name)))  # a part that came back into the log since we looked
        found = [one for one in found if one.key.removeprefix(prefix) not in present]
        for done, one in enumerate(found, start=1):
            lake.store.delete(one.key)
            tell(done, len(found))
    return Vacuumed(name, tuple(one.key.removeprefix(prefix) for one in found), sum(one.size for one in found))


def removed_files(lake: Lake, name: str, table: DeltaTable) -> set[str]:
    """Paths of all files that rewrites removed and the log still tells of; older versions may name them."""
    return set(_tombstoned(lake, name, table, 0))


def _tombstoned(lake: Lake, name: str, table: DeltaTable, hours: int) -> list[str]:
    try:
        return list(table.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=False))
    except (delta.DeltaError, OSError) as error:
        remedy = "run the command again: what is deleted stays deleted, and nothing else is missing"
        raise StorageError("list the removed files of", lake.table_uri(name), error, remedy=remedy) from error


def _existing(lake: Lake, name: str, paths: set[str]) -> list[ObjectInfo]:
    """Those of the files that are there: the log tells of a removed file long after it was deleted."""
    if not paths:
        return []
    prefix = f"{table_key(name)}/"
    return [one for one in lake.store.list(f"{prefix}parts/") if one.key.removeprefix(prefix) in paths]
