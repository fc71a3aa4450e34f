"""A file on its way: what has arrived lies beside its place, with a note of what it is a part of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from etl.models.weights.errors import NoRoomError
from etl.storage.faults import by_number

BLOCK = 1 << 20
MARGIN = 256 << 20  # bytes that stay free: a full disk harms more than this download

Progress = Callable[[str, int, int | None], None]  # what is worked on, bytes done, bytes in all


class Partial:
    """The part of one file that has arrived.

    Args:
        path: Where the whole file will lie.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.with_name(path.name + ".part")
        self.note = path.with_name(path.name + ".part.json")

    def size(self) -> int:
        """Bytes that have arrived."""
        return self.data.stat().st_size if self.data.exists() else 0

    def validator(self, url: str) -> str | None:
        """What the server called the version that this is a part of; None where it cannot be gone on with."""
        try:
            note = json.loads(self.note.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(note, dict) or note.get("url") != url:
            return None
        return note.get("validator")

    def begin(self, url: str, validator: str | None) -> None:
        """Start anew with a version of the file that the server calls ``validator``."""
        self.drop()
        self.note.parent.mkdir(parents=True, exist_ok=True)
        self.note.write_text(json.dumps({"url": url, "validator": validator}))

    def drop(self) -> None:
        """Forget what has arrived."""
        self.data.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def settle(self) -> None:
        """What has arrived is the file: put it in its place."""
        with self.data.open("rb") as file:
            os.fsync(file.fileno())
        self.data.replace(self.path)
        self.note.unlink(missing_ok=True)

    def write(self, file: BinaryIO, block: bytes) -> None:
        """Append a block; a full disk raises LastingError with what to do."""
        try:
            file.write(block)
        except OSError as error:
            typed = by_number(error.errno or 0, "write", self.data.name, str(self.data.parent), error)
            raise typed or NoRoomError(
                f"cannot write {self.data}: {error}", remedy="mend it and run it again"
            ) from error


def sha256_of(path: Path, name: str, progress: Progress) -> str:
    """sha256 of a file, read with progress."""
    digest = hashlib.sha256()
    feed(digest.update, path, name, progress)
    return digest.hexdigest()


def feed(update: Callable[[bytes], object], path: Path, name: str, progress: Progress) -> None:
    """Give a file to ``update``, block by block."""
    done, total = 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            update(block)
            done += len(block)
            progress(f"checking {name}", done, total)


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise NoRoomError when the disk of ``folder`` has no room for ``needed`` bytes more."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed + MARGIN:
        raise NoRoomError(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, of which {max(0, free - MARGIN) / 1e9:.1f} GB are left "
            f"(the last {MARGIN / 1e9:.1f} GB of a disk are not used)",
            remedy="free space there, or set GROUNDLAKE_SCRATCH to a folder on another disk, then run it again",
        )
