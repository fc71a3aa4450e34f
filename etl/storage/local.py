"""A folder as a store. Objects appear whole: written beside their place, synced, then linked or renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from etl.errors import ConfigurationError
from etl.storage.base import NotFoundError, ObjectInfo, StorageError, Store

TEMPORARY = ".tmp-"  # listings skip it; sweep removes those older than a day


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
        with self._errors("read", key), self.path(key).open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        if len(data) != length:
            raise StorageError("read", key, f"{length} bytes from {offset} wanted, {len(data)} there")
        return data

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
        start = self.path(prefix) if prefix.endswith("/") or not prefix else self.path(prefix).parent
        files = (Path(folder) / name for folder, _, names in os.walk(start) for name in names)
        keys = (path.relative_to(self.root).as_posix() for path in files if not path.name.startswith(TEMPORARY))
        for key in sorted(key for key in keys if key.startswith(prefix)):
            found = self.stat(key)
            if found is not None:  # else deleted since the walk
                yield found

    def delete(self, key: str) -> None:
        with self._errors("delete", key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.path(key).unlink()

    def delta_options(self) -> dict[str, str] | None:
        return None

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
            if operation in ("read", "download") and not self.path(key).is_file():
                raise NotFoundError(self.uri, key) from error
            raise StorageError(operation, key, error, remedy=_remedy(error, self.uri)) from error


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


def _remedy(error: OSError, uri: str) -> str:
    return {
        errno.ENOSPC: f"free space on the disk of {uri}, then run the command again: what is written stays",
        errno.EDQUOT: f"raise the disk quota of {uri}, then run the command again",
        errno.EROFS: f"{uri} is read-only: mount it writable, or choose another lake",
        errno.EACCES: f"give this user write access to {uri}",
        errno.EPERM: f"give this user write access to {uri}",
    }.get(error.errno or 0, "mend the cause and run the command again: what is written stays")
