"""``groundlake models pull``: the files of a checkpoint from the web into the model store."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.errors import DataError, RetryableError
from etl.models.store import ModelStore, Stored
from etl.models.weights.add import LINKED, Added, store
from etl.models.weights.download import Wanted, download, remote_size
from etl.models.weights.given import check_recorded
from etl.models.weights.partial import Partial, Progress, check_room
from etl.models.weights.transport import Rules
from etl.settings import WeightsEntry


def pull(
    models: ModelStore,
    entry: WeightsEntry,
    scratch: Path,
    progress: Progress,
    pause: Callable[[float], None] = time.sleep,
) -> Added:
    """Download a checkpoint and put it into the model store. What has arrived stays until it is there.

    Args:
        models: The store.
        entry: The checkpoint.
        scratch: Folder for the files on their way and for the conversion.
        progress: Told now and then how far it is.
        pause: Waits so many seconds between tries.

    Raises:
        NoRoomError: The scratch disk has no room; said before anything is downloaded where the lengths are known.
        RetryableError: Another process pulls the same, or the line broke off for good: run it again.
        GroundlakeError: As ``download`` and ``add`` do.
    """
    stored = models.stored(entry.network)
    place = scratch / f"{entry.name}-{_marked(entry)}"
    with _alone(place, entry.name):
        wanted = {file.name: _wanted(entry, file.name, place, stored) for file in entry.files}
        _check_room(entry, wanted, place)
        digests = {name: download(one, progress, pause) for name, one in wanted.items()}
        check_recorded(digests, stored)
        try:
            added = store(models, entry, {name: one.path for name, one in wanted.items()}, digests, scratch)
        except DataError:
            for one in wanted.values():
                if one.sha256 is None:  # it may be this file that is wrong: the next pull fetches it anew
                    one.path.unlink(missing_ok=True)
            raise
        shutil.rmtree(place)
    return added


def _wanted(entry: WeightsEntry, name: str, place: Path, stored: Stored | None) -> Wanted:
    file = entry.file(name)
    recorded = stored.sources.get(name) if stored and file.sha256 is None else None
    return Wanted(
        name=name,
        url=entry.url(file),
        path=place / name,
        sha256=file.sha256 or recorded,
        recorded=recorded is not None,
        bytes=file.bytes,
        rules=Rules(allow_http=entry.allow_http, allow_private=entry.allow_private_addresses),
    )


def _check_room(entry: WeightsEntry, wanted: dict[str, Wanted], place: Path) -> None:
    """Before the first byte: asks the servers for the lengths that the catalog does not know."""
    arriving = largest = 0  # bytes on their way; bytes of all files
    answering = True
    for one in wanted.values():
        if one.path.is_file():
            largest += one.path.stat().st_size
            continue
        size = one.bytes or (remote_size(one) if answering else None) or 0
        answering = answering and size > 0  # else every further question may wait for its timeout
        arriving += max(0, size - Partial(one.path).size())
        largest += size
    # The conversion may be as large as the files.
    check_room(place, arriving + (0 if entry.family in LINKED else largest), f"pulling {entry.name}")


def _marked(entry: WeightsEntry) -> str:
    """Digits that change with the urls: files of another revision are never gone on with."""
    urls = "\n".join(entry.url(file) for file in entry.files)
    return hashlib.sha256(urls.encode()).hexdigest()[:8]


@contextmanager
def _alone(place: Path, name: str) -> Iterator[None]:
    """Hold the folder of a pull; a lock that the system drops when the process dies, however it does."""
    place.mkdir(parents=True, exist_ok=True)
    lock = place.with_name(f"{place.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RetryableError(
                f"another process pulls {name} into {place}", remedy="let it end, or run this one again afterwards"
            ) from error
        yield
