"""Backup and restore: one consistent state of a lake in another place.

The order, and why a kill between any two steps is safe:

1. What the copy is to hold is pinned, before anything is listed: first what refers to other tables, last the
   tombstones. No table then names what is not there yet.
2. Orders and slice records are listed, not yet copied: the parts they name were written before them, so the listings
   of step 3 hold those. A restored lake goes on with open orders where the original was.
3. Data files, all that lie in the tables: those of the pinned versions, of manifests' and of older ones within the
   retention, and those of open orders. Nothing names them in the copy so far. Left out is what a takedown replaced
   and no pinned version names: an earlier backup that was not pruned may hold it, a restore shall not bring it back.
4. The log of the tombstones, then tars and all other objects: a tar that was zeroed comes after its tombstone.
5. The other logs, from what is referred to up to what refers: ``outcomes`` and ``downloads``, which make units
   visible, then ``manifests``, which name versions of all. Each grows by whole entries, upwards. So an existing copy is
   a consistent lake at every instant, of the old state, the new one, or with some units not visible yet.
6. ``lake.json``, where there was none: a first backup that did not end is no lake, and nobody can restore it.
7. What the lake had lost before step 1 is deleted from the copy, if asked for: no pinned version can name it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from etl.errors import ConfigurationError, DataError
from etl.lake.backup.copying import Copied, Copier, beside
from etl.lake.backup.logs import checkpoint_copy, copy_log, refuse_damage, refuse_other_lake
from etl.lake.check.files import active_files, compare_files
from etl.lake.lake import Lake
from etl.lake.migrations import MARKER
from etl.lake.parts import data_paths, table_key
from etl.lake.pins import pinned_versions
from etl.lake.remaps import read_remaps
from etl.settings import Settings
from etl.storage import ObjectInfo, Store, open_store

UNITS, RAW = "units/", "raw/"
ROOMS = ("urls/", "models/", "manifests/")  # whose objects never change under their name
RESTORING = "restoring.json"
_LOG = "/_delta_log/"
# A table is pinned before those it refers to; it is written after them. What a takedown says of itself is pinned first:
# it may be done again, but must not be said done where it is not. Its tombstones are pinned last.
PIN_ORDER = (
    *("takedown_events", "manifests", "outcomes", "downloads", "orders", "current", "runs"),
    *("captions", "instances", "tags", "embeddings", "sightings", "images"),
    *("shards", "sources", "annotators", "rewrites", "takedowns"),
)
Tell = Callable[[int, int], None]


def backup(lake: Lake, to: str, *, prune: bool = False, tell: Tell | None = None) -> Copied:
    """Copy the lake as it is now to another place, beside whoever writes to it; only what is not there yet.

    Killed, it is completed by calling it again; what the place held before stays a lake until then.

    Args:
        lake: The lake.
        to: An empty place, or an earlier backup of this lake.
        prune: Also delete from the backup what the lake no longer has, such as files that held pictures taken down.
        tell: Called with the objects that are done, and those known so far.

    Raises:
        ConfigurationError: The place lies in the lake, or holds another one.
        DataError: The lake is damaged; nothing was copied.
        RetryableError: A store failed; the same call goes on.
    """
    target = open_store(to)
    _refuse_overlap(lake.store, target)
    if target.stat(RESTORING) is not None:
        raise ConfigurationError(f"{to} is a restore that has not ended", remedy="end it, or name an empty place")
    return _Copy(lake, target, tell or _silent).run(prune=prune)


def restore(source: str, to: str, settings: Settings, *, tell: Tell | None = None) -> Copied:
    """Make a lake of a backup, in an empty place; killed, it is completed by calling it again.

    Args:
        source: The backup.
        to: An empty place, or one where a restore of that backup has not ended.
        settings: Those of this process.
        tell: Called with the objects that are done, and those known so far.

    Raises:
        ConfigurationError: The source is no lake, the place is not empty, or it cannot hold a lake.
        DataError: The backup is damaged.
        RetryableError: A store failed; the same call goes on.
    """
    lake, target = Lake.open(source, settings, reading=True), open_store(to)
    _refuse_overlap(lake.store, target)
    ticket = json.dumps({"restores": lake.created_at.isoformat()}).encode()
    if target.stat(RESTORING) is None:
        _refuse_content(target)
        target.probe()
        target.put_if_absent(RESTORING, ticket)
    if target.read(RESTORING) != ticket:
        raise ConfigurationError(f"{to} is a restore of another lake that has not ended", remedy="name an empty place")
    copied = _Copy(lake, target, tell or _silent).run(prune=False)
    target.delete(RESTORING)
    return copied


def _refuse_overlap(source: Store, target: Store) -> None:
    one, other = (f"{store.uri.rstrip('/')}/" for store in (source, target))
    if one.startswith(other) or other.startswith(one):
        raise ConfigurationError(
            f"{source.uri} and {target.uri} lie in one another", remedy="name a place outside the lake"
        )


def _refuse_content(target: Store) -> None:
    for prefix in (MARKER, "tables/", RAW, UNITS, *ROOMS):
        for found in target.list(prefix):
            raise ConfigurationError(
                f"{target.uri} is not empty: there is {found.key}", remedy="name an empty place to restore to"
            )


@dataclass
class _Copy:
    """One copy of a lake."""

    lake: Lake
    target: Store
    tell: Tell

    def __post_init__(self) -> None:
        scratch = self.lake.settings.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._copier = Copier(self.lake.store, self.target, scratch, self.tell)
        self._tables = [name for name in PIN_ORDER if self.lake.has(name)]
        self._copy = Lake(self.target, self.lake.settings, self.lake.schema_version)

    def run(self, *, prune: bool) -> Copied:
        source, copier = self.lake.store, self._copier
        refuse_damage(self.lake, self._tables)
        refuse_other_lake(source, self.target, self._tables)
        with self._spooled() as gone, self._spooled() as units:
            if prune:
                _spool(gone, self._surplus())
            replaced = read_remaps(self.lake)  # before the pins: the copy's own ``rewrites`` must know of each
            versions = {name: int(self.lake.table(name).version()) for name in self._tables}
            pins = pinned_versions(self.lake)
            _spool(units, source.list(UNITS))
            for name in self._tables:
                self._data_files(name, versions[name], set(replaced.get(name, ())))
            self._logs(["takedowns"], versions, pins)
            copier.copy_missing(source.list(RAW), RAW, mutable=True)
            for room in ROOMS:
                copier.copy_missing((one for one in source.list(room) if "/." not in one.key), room)
            copier.copy_missing(_read(units), UNITS)
            self._logs([name for name in reversed(self._tables) if name != "takedowns"], versions, pins)
            self._verify(versions)
            if self.target.stat(MARKER) is None or self.target.read(MARKER) != source.read(MARKER):
                self.target.put(MARKER, source.read(MARKER))
            copier.finish()
            pruned = sum(self._prune(one) for one in _read(gone))
        return Copied(copier.objects, copier.bytes, copier.skipped, pruned)

    def _data_files(self, name: str, version: int, replaced: set[str]) -> None:
        folder = f"{table_key(name)}/"
        unwanted = {folder + path for path in replaced}
        if unwanted:
            unwanted -= {folder + path for path in data_paths(self.lake.table(name, version))}
        listed = self.lake.store.list(folder)
        self._copier.copy_missing((o for o in listed if _LOG not in o.key and o.key not in unwanted), folder)

    def _logs(self, names: list[str], versions: Mapping[str, int], pins: Mapping[str, list[int]]) -> None:
        upwards = self.target.stat(MARKER) is not None
        for name in names:
            copy_log(self._copier, name, versions[name], pins.get(name, []), upwards=upwards)
            checkpoint_copy(self._copy, name)

    def _verify(self, versions: Mapping[str, int]) -> None:
        """Every file that the copy's own logs name is there, with its size."""
        for name, version in versions.items():
            for finding in compare_files(self._copy, name, active_files(self._copy.table(name, version))):
                raise DataError(
                    f"{self.target.uri}: {finding.message}: {finding.count}, such as {finding.example}",
                    remedy="groundlake lake check on the lake; if it is sound, run the command again",
                )

    def _surplus(self) -> Iterator[ObjectInfo]:
        """What only the copy has. Logs aside: a lake loses no entry of them, and the copy's checkpoints are its own."""
        for prefix in ("tables/", RAW, UNITS, *ROOMS):
            for one, other in beside(self.lake.store.list(prefix), self.target.list(prefix)):
                if one is None and other is not None and _LOG not in other.key:
                    yield other

    def _prune(self, one: ObjectInfo) -> bool:
        if self.lake.store.stat(one.key) is not None:  # back again
            return False
        self.target.destroy(one.key)
        return True

    def _spooled(self) -> IO[str]:
        """A file for a listing of any length."""
        return tempfile.TemporaryFile("w+", dir=self.lake.settings.scratch)


def _spool(file: IO[str], listing: Iterator[ObjectInfo]) -> None:
    for one in listing:
        file.write(json.dumps([one.key, one.size, one.modified]) + "\n")


def _read(file: IO[str]) -> Iterator[ObjectInfo]:
    file.seek(0)
    for line in file:
        yield ObjectInfo(*json.loads(line))


def _silent(done: int, total: int) -> None:
    """No progress is shown."""
