"""A folder as a store. Objects appear whole: written beside their place, synced, then linked or renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from etl.errors import ConfigurationError
from etl.storage.base import NotFoundError, ObjectInfo, StorageError, Store
from etl.storage.faults import by_number
from etl.storage.spans import blocks, windows

TEMPORARY = ".tmp-"  # listings skip it; sweep removes old ones
# What a killed writer leaves: ours, and those of delta-rs, which links N.json#1 to N.json.
_LEFTOVER = re.compile(r"^\.tmp-|\.(json|parquet)#\d+$")
_READING = ("read", "download", "erase")
_REMEDY = "mend the cause and run the command again: what is written stays"
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_ZEROS = bytes(1 << 20)  # what one write erases


class LocalStore(Store):
    """Objects as files below ``root``.

    Args:
        root: The folder; it need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.uri = str(self.root)

    def path(self, key: str) -> Path:
        """The file of a key.

        Raises:
            ConfigurationError: The key leads out of the store.
        """
        path = Path(os.path.normpath(self.root / key))
        if not path.is_relative_to(self.root):
            raise ConfigurationError(f"key {key!r} leads outside the store {self.uri}")
        return path

    def read(self, key: str) -> bytes:
        with self._errors("read", key):
            return self.path(key).read_bytes()

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.read_ranges(key, [(offset, length)])[0]

    def read_ranges(self, key: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._errors("read", key), self.path(key).open("rb") as file:
            return [_exactly(file, key, offset, length) for offset, length in spans]

    def download(self, key: str, path: Path) -> None:
        temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        with self._errors("download", key):
            try:
                shutil.copyfile(self.path(key), temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def put(self, key: str, data: bytes) -> None:
        self._write(key, lambda temporary: temporary.write_bytes(data), os.replace)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        try:
            self._write(key, lambda temporary: temporary.write_bytes(data), _link)
        except _ExistsAlreadyError:
            return False
        return True

    def publish_file(self, path: Path, key: str) -> None:
        self._write(key, lambda temporary: shutil.copyfile(path, temporary), os.replace)

    def stat(self, key: str) -> ObjectInfo | None:
        path = self.path(key)
        with self._errors("look up", key):
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return None if path.is_dir() else ObjectInfo(key, found.st_size, found.st_mtime)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._errors("list", prefix):
            yield from self._walk(prefix, lambda name: not name.startswith(TEMPORARY))

    def delete(self, key: str) -> None:
        with self._errors("delete", key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.path(key).unlink()

    def erase(self, key: str, spans: Sequence[tuple[int, int]]) -> int:
        # In place: no byte but those erased is written, so calls for other spans cannot bring any back.
        wanted = windows(spans)
        if not wanted:
            return 0
        with self._errors("erase", key), self.path(key).open("r+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if wanted[-1].end > size:  # writing there would make the object longer
                raise StorageError("erase", key, f"bytes up to {wanted[-1].end} wanted, {size} there")
            for window in wanted:
                for offset, length in blocks(window.offset, window.length, len(_ZEROS)):
                    _write_all(file.fileno(), _ZEROS[:length], offset)
            os.fsync(file.fileno())
        return sum(window.length for window in wanted)

    def leftovers(self, older_than: float) -> Iterator[ObjectInfo]:
        with self._errors("list", ""):
            for found in self._walk("", lambda name: _LEFTOVER.search(name) is not None):
                if found.modified < older_than:
                    yield found

    def remove_leftovers(self, before: float, *, dry_run: bool = False) -> int:
        count = 0
        for count, found in enumerate(self.leftovers(before), 1):  # noqa: B007 - the last count is the answer
            if not dry_run:
                self.delete(found.key)
        return count

    def delta_options(self) -> dict[str, str] | None:
        return None

    def _walk(self, prefix: str, wanted: Callable[[str], bool]) -> Iterator[ObjectInfo]:
        """The files whose key begins with ``prefix`` and whose name is wanted, in key order.

        Holds the names of one folder at a time, on each level.
        """
        start = self.path(prefix) if prefix.endswith("/") or not prefix else self.path(prefix).parent
        above = f"{start.relative_to(self.root).as_posix()}/" if start != self.root else ""
        for entry in _entries(start):
            key = above + entry.name
            if entry.is_dir(follow_symlinks=False):
                if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                    yield from self._walk(f"{key}/", wanted)
            elif key.startswith(prefix) and wanted(entry.name):
                found = self.stat(key)
                if found is not None:  # else deleted since
                    yield found

    def _write(self, key: str, write: Callable[[Path], object], settle: Callable[[Path, Path], None]) -> None:
        path = self.path(key)
        temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        with self._errors("write", key):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                write(temporary)
                _sync(temporary)
                settle(temporary, path)
                _sync(path.parent)
            finally:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if operation in _READING and isinstance(error, _MISSING) and not self.path(key).is_file():
                raise NotFoundError(self.uri, key) from error
            typed = by_number(error.errno or 0, operation, key, self.uri, error)
            raise typed or StorageError(operation, key, error, remedy=_REMEDY) from error


class _ExistsAlreadyError(Exception):
    """The key of a conditional write is taken."""


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise _ExistsAlreadyError from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise ConfigurationError(
            f"the file system of {path.parent} has no hard links, without which no write is atomic ({error.strerror})",
            remedy="choose a folder on another file system (not FAT, exFAT or some network drives)",
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exactly(file: BinaryIO, key: str, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise StorageError("read", key, f"{length} bytes from {offset} wanted, {len(data)} there")
    return data


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, in the order of the keys below it; nothing when there is no such folder (any more)."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda one: f"{one.name}/" if one.is_dir(follow_symlinks=False) else one.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data``: one call may write less, as on a disk that fills up."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
