"""Temporary files that killed processes left in the store and on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from etl.lake.maintenance.broom import DAY, Broom
from etl.lake.maintenance.stream import SCRATCH_PREFIX

# Folders that commands make below the scratch folder; those with a dot lie inside the cache of models. What follows
# the prefix is what tempfile makes of it: the scratch folder may be one that others use too, such as /tmp.
_RANDOM = "[a-z0-9_]" * 8
_CONVERSIONS = "weights/convert-"
_FOLDERS = tuple(
    prefix + _RANDOM
    for prefix in ("ingest-", "stage-", "copy-", SCRATCH_PREFIX, "models/.build-", "models/*/.copy-", _CONVERSIONS)
)
_QUERIES = f"sql-{_RANDOM}"  # a manifest of millions of pictures keeps one for as long as it is built
_PULLS = f"weights/*-{'[0-9a-f]' * 8}"
_PULL_DAYS = 7  # what has arrived of a checkpoint is gone on with by the next pull, which may be some days off
_PROBES = "probe-"


def sweep_store(broom: Broom) -> None:
    """Remove temporary files, unfinished uploads and probes of the store that are older than a day."""
    store, kind = broom.lake.store, "temporary files of the store"
    if count := store.remove_leftovers(broom.stale_before, dry_run=broom.dry_run):
        broom.count(kind, count)
    for one in list(store.list(_PROBES)):
        if one.modified < broom.stale_before:
            broom.take(kind, one.key, one.size)


def sweep_scratch(broom: Broom) -> None:
    """Remove this machine's scratch folders that nothing has changed for a day.

    Those of queries stay for the sweep's days, and downloads of weights, which can be gone on with, for a week at
    least. Their age is told by this machine's clock, which made them.
    """
    root, now = broom.lake.settings.scratch, time.time()
    _sweep(broom, (path for pattern in _FOLDERS for path in root.glob(pattern)), now - DAY)
    _sweep(broom, root.glob(_QUERIES), now - broom.days * DAY)
    pulls = (path for path in root.glob(_PULLS) if not path.match(_CONVERSIONS + _RANDOM))
    _sweep(broom, pulls, now - max(broom.days, _PULL_DAYS) * DAY)


def _sweep(broom: Broom, folders: Iterator[Path], before: float) -> None:
    for folder in sorted(folders):
        with _locks_of(folder) as free:
            size, changed = _size_and_change(folder)
            if free and changed < before and _is_ours(folder):
                broom.count("scratch folders", 1, size)
                if not broom.dry_run:
                    shutil.rmtree(folder, ignore_errors=True)  # another sweep may be at it too


def _size_and_change(folder: Path) -> tuple[int, float]:
    size, changed = 0, 0.0
    for place, _, names in os.walk(folder):
        for path in (Path(place), *(Path(place) / name for name in names)):
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                changed = max(changed, found.st_mtime)
                size += 0 if path.is_dir() else found.st_size
    return size, changed


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


@contextmanager
def _locks_of(folder: Path) -> Iterator[bool]:
    """Whether no living process holds a lock of the folder, in it or beside it; while this is used none can take it.

    Most folders have none. A lock beside a folder is left there: a process that waits for it would go on with a file
    that no other sees.
    """
    with ExitStack() as held:
        for place in (folder / "lock", folder.with_name(f"{folder.name}.lock")):
            try:
                lock = held.enter_context(place.open("r"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:
                continue
            except OSError:
                yield False
                return
        yield True
