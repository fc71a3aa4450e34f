"""Logs of tables, copied so that the copy is a table at every instant: entry by entry, upwards, without a gap."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from etl.errors import ConfigurationError, DataError
from etl.lake.backup.copying import THREADS, Copier
from etl.lake.check.findings import ERROR
from etl.lake.check.logs import entry_key, inspect_log, list_log
from etl.lake.lake import Lake
from etl.lake.maintenance import checkpoint
from etl.storage import Store

_CHUNK = 256
TAIL = 10  # as the tables' own checkpoint interval


def refuse_damage(lake: Lake, names: Sequence[str]) -> None:
    """Refuse a lake whose logs are damaged, before its damage reaches a good backup.

    Raises:
        DataError: A log is damaged.
    """
    for name in names:
        for finding in inspect_log(lake.store, name):
            if finding.severity == ERROR:
                raise DataError(f"{lake.uri}: {finding.message} ({finding.example})", remedy="groundlake lake check")


def refuse_other_lake(source: Store, target: Store, names: Sequence[str]) -> None:
    """Refuse to copy over what is no earlier state of this very lake.

    Entries are never equal by chance: two logs that agree in one entry agree in all before it.

    Raises:
        ConfigurationError: The target holds another lake, or this one in a state that this one never was in.
    """
    for name in names:
        ours, theirs = list_log(source, name), list_log(target, name)
        common = max(set(ours.entries) & set(theirs.entries), default=None)
        if theirs.last > ours.last or (
            common is not None and source.read(entry_key(name, common)) != target.read(entry_key(name, common))
        ):
            raise ConfigurationError(
                f"{target.uri} holds another lake, or a later state of this one: see table {name}",
                remedy="name an empty place; nothing was copied",
            )


def copy_log(copier: Copier, name: str, version: int, pins: Sequence[int], *, upwards: bool) -> None:
    """Copy the entries of a log up to a version, and the checkpoints that older, pinned versions are read by.

    Args:
        copier: Source and target.
        name: The table.
        version: The last entry to copy.
        pins: Versions that manifests pin.
        upwards: Whether the target is read meanwhile: then no entry comes before the one below it.

    Raises:
        ConfigurationError: Somebody else writes to the target.
        StorageError: A store failed.
    """
    ours, theirs = list_log(copier.source, name), list_log(copier.target, name)
    todo = [v for v in sorted(ours.entries) if v <= version and theirs.entries.get(v) != ours.entries[v]]
    copier.skipped += sum(v <= version for v in ours.entries) - len(todo)
    with ThreadPoolExecutor(1 if upwards else THREADS) as pool:
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            sizes = list(pool.map(lambda v: _copy_entry(copier, entry_key(name, v)), chunk))
            copier.count(sum(sizes), len(sizes))
    # After the entries: readers take a checkpoint for the newest version, whatever entries are there.
    for pin in pins:
        nearest = max((v for v in ours.checkpoints if v <= min(pin, version)), default=None)
        for one in ours.checkpoints[nearest] if nearest is not None and nearest not in theirs.checkpoints else ():
            copier.target.put(one.key, copier.source.read(one.key))
            copier.count(one.size)


def _copy_entry(copier: Copier, key: str) -> int:
    data = copier.source.read(key)
    if not copier.target.put_if_absent(key, data) and copier.target.read(key) != data:
        raise ConfigurationError(
            f"{copier.target.join(key)} was written by somebody else meanwhile",
            remedy="let no writer use a backup; restore it to another place to work on it",
        )
    return len(data)


def checkpoint_copy(copy: Lake, name: str) -> None:
    """Sum up a copy's log when readers would replay many entries; ``_last_checkpoint`` then names its last version."""
    log = list_log(copy.store, name)
    if len(log.tail()) > TAIL or (log.checkpoints and not log.hint):
        checkpoint(copy, name)
