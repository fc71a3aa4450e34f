"""Copying objects between stores: many at once, a bounded piece of them in memory, and only what is not there yet."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from etl.errors import RetryableError
from etl.storage import LocalStore, NotFoundError, ObjectInfo, Store

THREADS = 8
AHEAD = 4 * THREADS  # copies asked for and not finished
IN_MEMORY = 8 << 20  # bytes; longer objects go through a file
TRIES = 5
# Tars are zeroed in place by takedowns. Two stores may have two clocks: a copy counts as newer than its original only
# by more than this. (All other objects never change under their name.)
SKEW = 3600.0


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    Attributes:
        objects: Objects that were copied.
        bytes: Their bytes.
        skipped: Objects that were there already.
        pruned: Objects that the backup had and the lake no longer has: they were deleted.
    """

    objects: int = 0
    bytes: int = 0
    skipped: int = 0
    pruned: int = 0


class Copier:
    """Copies objects of one store to another, under the same keys.

    Args:
        source: Where they are.
        target: Where they go.
        scratch: Folder for objects that do not fit into memory.
        tell: Called with the objects that are done, and those known so far.
    """

    def __init__(self, source: Store, target: Store, scratch: Path, tell: Callable[[int, int], None]) -> None:
        self.source, self.target = source, target
        self._scratch, self._tell = scratch, tell
        self.objects = self.bytes = self.skipped = 0

    def copy_missing(self, wanted: Iterable[ObjectInfo], prefix: str, *, mutable: bool = False) -> None:
        """Copy what the target lacks, many at a time, in no particular order; what is gone by now is left out.

        Args:
            wanted: Objects of the source in key order, all below ``prefix``.
            prefix: Lists what the target has.
            mutable: Whether they change under their name: then one that may be newer than its copy is copied again.

        Raises:
            RetryableError: A store failed, or an object changed again and again.
        """
        copy = self._copy_steady if mutable else self._copy
        pending: set[Future[int | None]] = set()
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                for one in self._lacking(wanted, self.target.list(prefix), SKEW if mutable else 0.0):
                    pending.add(pool.submit(copy, one))
                    if len(pending) >= AHEAD:
                        pending = self._reap(pending)
                while pending:
                    pending = self._reap(pending)
            except BaseException:  # the error is final: begin nothing that still waits
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def count(self, size: int, objects: int = 1) -> None:
        """Note objects that were copied."""
        self.objects, self.bytes = self.objects + objects, self.bytes + size
        self._say(0)

    def finish(self) -> None:
        """Say that nothing is left to copy."""
        known = self.objects + self.skipped
        self._tell(known, known)

    def _say(self, waiting: int) -> None:
        known = self.objects + self.skipped
        self._tell(known, known + waiting + 1)  # what else there is shows when it is listed

    def _copy(self, one: ObjectInfo) -> int | None:
        """Copy an object; its bytes, or None when it is gone."""
        try:
            self._transfer(one)
        except NotFoundError:
            return None
        return one.size

    def _copy_steady(self, one: ObjectInfo) -> int | None:
        """Copy an object as it is now: a takedown may zero a piece after we read it, and before the copy is dated."""
        for _ in range(TRIES):
            before = self.source.stat(one.key)
            if before is None or self._copy(before) is None:
                return None
            if self.source.stat(one.key) == before:
                return before.size
        raise RetryableError(f"{one.key} changed during {TRIES} copies", remedy="run the command again: it resumes")

    def _transfer(self, one: ObjectInfo) -> None:
        if one.size <= IN_MEMORY:
            self.target.put(one.key, self.source.read(one.key))
        elif isinstance(self.source, LocalStore):
            self.target.publish_file(self.source.path(one.key), one.key)
        else:
            self._scratch.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="copy-", dir=self._scratch))
            try:
                self.source.download(one.key, folder / "object")
                self.target.publish_file(folder / "object", one.key)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _reap(self, pending: set[Future[int | None]]) -> set[Future[int | None]]:
        done, rest = wait(pending, return_when=FIRST_COMPLETED)
        for size in (future.result() for future in done):
            if size is not None:
                self.objects, self.bytes = self.objects + 1, self.bytes + size
        self._say(len(rest))
        return rest

    def _lacking(
        self, wanted: Iterable[ObjectInfo], there: Iterable[ObjectInfo], margin: float
    ) -> Iterator[ObjectInfo]:
        for one, copy in beside(wanted, there):
            if one is None:
                continue
            if copy is not None and copy.size == one.size and copy.modified >= one.modified + margin:
                self.skipped += 1
            else:
                yield one


def beside(
    left: Iterable[ObjectInfo], right: Iterable[ObjectInfo]
) -> Iterator[tuple[ObjectInfo | None, ObjectInfo | None]]:
    """Two listings in key order side by side: the objects of equal key together, None where one has no such key."""
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.key < other.key):
            yield one, None
            one = next(lefts, None)
        elif one is None or other.key < one.key:
            yield None, other
            other = next(rights, None)
        else:
            yield one, other
            one, other = next(lefts, None), next(rights, None)
