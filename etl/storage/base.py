"""The interface every store offers; keys are relative to the store's root and use forward slashes."""

from __future__ import annotations

import contextlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import ConfigurationError, DataError, GroundlakeError, RetryableError


class StorageError(RetryableError):
    """A store could not do what was asked; carries the operation and the key."""

    def __init__(self, operation: str, key: str, cause: object, *, remedy: str | None = None) -> None:
        super().__init__(f"cannot {operation} {key!r}: {cause}", remedy=remedy)
        self.operation, self.key = operation, key


class LastingError(StorageError):
    """A fault that somebody must mend first (a full disk, expired credentials): try later, do not wait for it here."""


class NotFoundError(DataError):
    """There is no object under this key."""

    def __init__(self, uri: str, key: str) -> None:
        super().__init__(f"no object {key!r} in {uri}")
        self.key = key


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object: key relative to the store, size in bytes, time of last change (seconds, UTC)."""

    key: str
    size: int
    modified: float


class Store(ABC):
    """Bytes under keys. Whatever is published is whole or absent, never half written."""

    uri: str

    @abstractmethod
    def read(self, key: str) -> bytes:
        """All bytes of an object; raises NotFoundError."""

    @abstractmethod
    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; raises NotFoundError, or StorageError when there are fewer."""

    @abstractmethod
    def read_ranges(self, key: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of several (offset, length) spans, in the order asked for; neighbours are read together.

        Holds what it returns in memory: ask for no more at once than fits.

        Raises:
            NotFoundError: There is no such object.
            StorageError: The object ends before a span does.
        """

    @abstractmethod
    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file, which appears whole; raises NotFoundError."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object atomically."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; returns whether it was written. Of two racing writers one wins.

        Raises:
            ConfigurationError: The place has no means for it (a file system without hard links).
        """

    @abstractmethod
    def publish_file(self, path: Path, key: str) -> None:
        """Copy a local file to ``key`` atomically, replacing what is there."""

    @abstractmethod
    def stat(self, key: str) -> ObjectInfo | None:
        """What is known of one object, or None when there is none."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with ``prefix``, in key order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""

    @abstractmethod
    def erase(self, key: str, spans: Sequence[tuple[int, int]]) -> int:
        """Overwrite (offset, length) spans of an object with zeros for good; every other byte stays where it is.

        Killed half-way, or called twice at once (for other spans too), it is completed by calling it again: what one
        call has erased no other brings back. No older version of the object is left where the store keeps versions.
        Holds a bounded piece of the object in memory.

        Returns:
            How many bytes the spans cover, whether or not they were zeros before.

        Raises:
            NotFoundError: There is no such object.
            StorageError: The object ends before a span does (then nothing is erased), or the store failed.
            ConfigurationError: The store cannot do this safely, or does not let us remove older versions.
        """

    def destroy(self, key: str) -> None:
        """Remove an object for good, with every older version where the store keeps them; none is no error.

        Raises:
            ConfigurationError: The store does not let us remove older versions.
            StorageError: The store failed.
        """
        self.delete(key)

    @abstractmethod
    def leftovers(self, older_than: float) -> Iterator[ObjectInfo]:
        """What killed writers left, which no listing shows: temporary files, unfinished multipart uploads.

        Args:
            older_than: Those last changed before this time (seconds, UTC): younger ones may have a live writer.

        Returns:
            Each with the key it would have had (S3) or has (a folder), and the bytes it takes.
        """

    @abstractmethod
    def remove_leftovers(self, before: float, *, dry_run: bool = False) -> int:
        """Remove what ``leftovers(before)`` finds; returns how many, also when ``dry_run`` removes none."""

    @abstractmethod
    def delta_options(self) -> dict[str, str] | None:
        """The ``storage_options`` with which delta-rs reaches the same place."""

    def probe(self) -> None:
        """Find out whether ``put_if_absent`` keeps its word here: without it, twins would overwrite each other.

        Raises:
            ConfigurationError: It does not.
            StorageError: The place cannot be written at all.
        """
        key = f"probe-{uuid.uuid4().hex}"
        try:
            answers = self.put_if_absent(key, b"first"), self.put_if_absent(key, b"second")
            kept = self.read(key)
        finally:
            with contextlib.suppress(GroundlakeError):  # the probe's own error says more
                self.delete(key)
        if answers != (True, False) or kept != b"first":
            raise ConfigurationError(
                f"{self.uri} does not honour conditional writes: a second write of one key replaced the first",
                remedy="choose a store whose PUT honours If-None-Match (S3 does), or a local folder",
            )

    def join(self, key: str) -> str:
        """The full uri of a key."""
        return f"{self.uri.rstrip('/')}/{key}"

    def read_json(self, key: str) -> dict[str, Any]:
        """An object parsed as a JSON mapping; raises NotFoundError, DataError."""
        try:
            content = json.loads(self.read(key))
        except ValueError as error:
            raise DataError(f"{self.join(key)} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise DataError(f"{self.join(key)}: expected a JSON mapping, got {type(content).__name__}")
        return content
