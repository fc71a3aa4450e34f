"""The logs of the tables, looked at as files: damage is found although, or although not, the table opens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from etl.lake.check.entries import Entry, judge
from etl.lake.check.findings import ERROR, Finding, Tally
from etl.lake.parts import table_key
from etl.storage import NotFoundError, ObjectInfo, Store

LAST_CHECKPOINT = "_last_checkpoint"
REPAIR = "groundlake lake check --repair"
RESTORE = "restore that file from a backup, or the lake: groundlake lake restore"
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\..+)?\.parquet")
_THREADS, _CHUNK = 8, 256
_MAGIC = b"PAR1"


@dataclass
class LogFiles:
    """The files of a table's log.

    Attributes:
        entries: Version -> size of its entry.
        checkpoints: Version -> files of its checkpoint.
        hint: Whether there is a ``_last_checkpoint``.
    """

    entries: dict[int, int] = field(default_factory=dict)
    checkpoints: dict[int, list[ObjectInfo]] = field(default_factory=dict)
    hint: bool = False

    @property
    def last(self) -> int:
        """The newest version that has an entry; -1 without any."""
        return max(self.entries, default=-1)

    def missing(self) -> list[int]:
        """Versions before the newest that have no entry."""
        return [] if len(self.entries) == self.last + 1 else [v for v in range(self.last) if v not in self.entries]

    def tail(self) -> list[int]:
        """Versions that every reader replays: those after the newest checkpoint, and always the last."""
        start = max((v for v in self.checkpoints if v <= self.last), default=-1)
        return sorted({v for v in self.entries if v > start} | {self.last})


def log_folder(table: str) -> str:
    """The folder of a table's log, relative to the lake, with its slash."""
    return f"{table_key(table)}/_delta_log/"


def entry_key(table: str, version: int) -> str:
    """Where the entry of a version lies."""
    return f"{log_folder(table)}{version:020d}.json"


def list_log(store: Store, table: str) -> LogFiles:
    """What lies in a table's log; files that are neither entries nor checkpoints are left out."""
    found = LogFiles()
    for one in store.list(log_folder(table)):
        name = one.key.removeprefix(log_folder(table))
        if match := _ENTRY.fullmatch(name):
            found.entries[int(match[1])] = one.size
        elif match := _CHECKPOINT.fullmatch(name):
            found.checkpoints.setdefault(int(match[1]), []).append(one)
        found.hint |= name == LAST_CHECKPOINT
    return found


def inspect_log(store: Store, table: str, *, everything: bool = False) -> Iterator[Finding]:
    """What is wrong with a table's log.

    Args:
        store: The lake's store.
        table: The table.
        everything: Read every entry and checkpoint, else those that readers of the newest version need.
    """
    log = list_log(store, table)
    if not log.entries:
        lost = "has no log" if not log.checkpoints else "has lost all entries of its log"
        remedy = "groundlake lake init adds it, if this lake never had it; else " + RESTORE
        yield Finding("log.table", ERROR, f"table {table} {lost}", 1, log_folder(table), remedy)
        return
    yield from _gaps(table, log)
    yield from _torn(store, table, log, everything)
    yield from _checkpoints(store, table, log, everything)


def _gaps(table: str, log: LogFiles) -> list[Finding]:
    found = Tally()
    for version in log.missing():
        found.add(entry_key(table, version))
    return found.finding("log.missing", f"table {table}: entries are missing in the middle of its log", RESTORE)


def _torn(store: Store, table: str, log: LogFiles, everything: bool) -> Iterator[Finding]:
    suspects = sorted(log.entries) if everything else log.tail()
    empty = {version for version, size in log.entries.items() if not size}
    for version, entry in read_entries(store, table, sorted({*suspects, *empty})):
        if entry.problem is None:
            continue
        unit = f", of unit {entry.unit}" if entry.unit else ""
        if version == log.last:
            remedy = f"{REPAIR}: moves the entry away and commits its unit again where all slices are there; "
            remedy += "else plan again, which finds what is not done"
        else:
            remedy = f"the rows of its unit are gone: {RESTORE}; or redo it: groundlake annotate run --force"
        where = f"{entry_key(table, version)}{unit}"
        message = f"table {table}: {'the last' if version == log.last else 'an'} entry of its log is {entry.problem}"
        yield Finding("log.entry", ERROR, message, 1, where, remedy)


def read_entries(store: Store, table: str, versions: Iterable[int]) -> Iterator[tuple[int, Entry]]:
    """What the entries of some versions say of themselves, a few read at a time; one that is gone is left out."""

    def read(version: int) -> Entry | None:
        try:
            return judge(store.read(entry_key(table, version)))
        except NotFoundError:
            return None

    rest = iter(versions)
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(rest, _CHUNK)):
            for version, entry in zip(chunk, pool.map(read, chunk), strict=True):
                if entry is not None:
                    yield version, entry


def _checkpoints(store: Store, table: str, log: LogFiles, everything: bool) -> Iterator[Finding]:
    versions = sorted(log.checkpoints)
    broken = Tally()
    for version in versions if everything else versions[-1:]:
        for one in log.checkpoints[version]:
            if not is_whole(store, one):
                broken.add(one.key)
    remedy = RESTORE if log.missing() else f"{REPAIR}: moves it away, every entry it sums up is there"
    yield from broken.finding("log.checkpoint", f"table {table}: a checkpoint of its log is cut", remedy)
    if log.hint and (named := named_checkpoint(store, table)) is not None and named not in log.checkpoints:
        message = f"table {table}: {LAST_CHECKPOINT} names version {named}, which has no checkpoint"
        yield Finding("log.checkpoint", ERROR, message, 1, log_folder(table) + LAST_CHECKPOINT, remedy)


def is_whole(store: Store, one: ObjectInfo) -> bool:
    """Whether a Parquet file ends as one: with its footer, whose length fits into the file."""
    if one.size < 12 or store.read_range(one.key, 0, 4) != _MAGIC:
        return False
    end = store.read_range(one.key, one.size - 8, 8)
    return end[4:] == _MAGIC and 0 < int.from_bytes(end[:4], "little") <= one.size - 12


def named_checkpoint(store: Store, table: str) -> int | None:
    """The version whose checkpoint a table's ``_last_checkpoint`` names; None without one that can be read."""
    try:
        return int(json.loads(store.read(log_folder(table) + LAST_CHECKPOINT))["version"])
    except (NotFoundError, ValueError, TypeError, KeyError):
        return None  # readers ignore one that they cannot read
