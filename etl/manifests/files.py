"""The folder of a manifest while it is built: digests every file, and appears under its name whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from etl.errors import ConfigurationError, RetryableError

UNFINISHED = ".building-"
LISTING = "files.sha256"


class Files:
    """Writes the files of one manifest and remembers their digests in ``files.sha256``, as ``sha256sum -c`` reads it.

    Args:
        folder: The unfinished folder.
        final: Where it will lie when it is whole.
    """

    def __init__(self, folder: Path, final: Path) -> None:
        self.folder, self.final = folder, final
        self.count, self.bytes = 0, 0
        self._listing = (folder / LISTING).open("w")

    def write(self, name: str, data: bytes) -> None:
        """Write one whole file; ``name`` is relative, with forward slashes."""
        with self._place(name).open("wb") as file:
            file.write(data)
        self._note(name, hashlib.sha256(data).hexdigest(), len(data))

    def stream(self, name: str) -> StreamedFile:
        """A text file written line by line, whose digest is noted when it is closed."""
        return StreamedFile(self._place(name), lambda digest, size: self._note(name, digest, size))

    def finish(self) -> dict[str, Any]:
        """Close the listing; returns its digest, and count and bytes of the files it lists."""
        self._listing.close()
        digest = hashlib.sha256((self.folder / LISTING).read_bytes()).hexdigest()
        return {"listing": LISTING, "sha256": digest, "count": self.count, "bytes": self.bytes}

    def _place(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _note(self, name: str, digest: str, size: int) -> None:
        self._listing.write(f"{digest}  {name}\n")
        self.count, self.bytes = self.count + 1, self.bytes + size


class StreamedFile:
    """Text in, digest out; parts may also be copied in from another file.

    Args:
        path: The file.
        done: Called with digest and size when it is closed.
    """

    def __init__(self, path: Path, done: Callable[[str, int], None]) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._sha, self._size, self._done = hashlib.sha256(), 0, done

    def write(self, text: str) -> None:
        """Append UTF-8 text."""
        self._append(text.encode())

    def copy_from(self, path: Path) -> None:
        """Append a file's bytes."""
        with path.open("rb") as source:
            while block := source.read(1 << 20):
                self._append(block)

    def close(self) -> None:
        """Close the file and note its digest."""
        self._file.close()
        self._done(self._sha.hexdigest(), self._size)

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._sha.update(data)
        self._size += len(data)


@contextmanager
def unfinished_folder(final: Path) -> Iterator[Path]:
    """A folder beside ``final``, locked while its builder lives; what a killed builder left is removed first.

    Raises:
        ConfigurationError: The place cannot be written.
        RetryableError: The disk is full or failed.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(final.parent)
        folder, lock = _locked_folder(final.parent)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write a manifest to {final.parent}: {error}", remedy="choose another --out"
        ) from error
    try:
        yield folder
    except OSError as error:
        raise RetryableError(
            f"the manifest in {final.parent} was not finished: {error}",
            remedy="free space or mend the disk, then run the command again; nothing half-written is left",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def settle(folder: Path, final: Path) -> bool:
    """Give a whole folder its name; returns False when a twin was first, whose folder stays."""
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        return False
    return True


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        folder = parent / f"{UNFINISHED}{uuid.uuid4().hex[:12]}"
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError, BlockingIOError):  # a cleaner took it between the two lines
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return folder, lock


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError):  # BlockingIOError: its builder lives
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
