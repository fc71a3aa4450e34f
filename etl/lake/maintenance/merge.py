"""The rows of several files as one sorted stream, without holding more than neighbours in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from etl.lake.lake import Lake
from etl.lake.maintenance.files import DataFile, in_order, read_batches
from etl.lake.parts import ROW_GROUP
from etl.lake.schemas import TABLES

_RUN_BYTES = 16 << 20  # encoded; files that are smaller together are read at once

Key = tuple[str, ...]


def merged(lake: Lake, name: str, files: Sequence[DataFile]) -> Iterator[pa.Table]:
    """All rows of ``files`` in the order of the table's sort columns.

    A file is opened when the stream reaches its first shard, and files hold few shards each: a batch of each of a few
    neighbours is in memory, whatever the number of files. Tables without a sort order come file by file.

    Raises:
        DataError: A file has other rows than the log says.
        NotFoundError: A file is gone.
        StorageError: The store failed.
    """
    ordered = sorted(files, key=lambda one: (one.first, one.path))
    if not TABLES[name].sort:
        for one in ordered:
            yield from read_batches(lake, name, one)
        return
    waiting = deque(runs(ordered))
    opened: list[_Cursor] = []
    while waiting or opened:
        if not opened:
            opened += _opened(lake, name, waiting.popleft())
            continue
        bound = min(cursor.last for cursor in opened)
        while waiting and waiting[0][0].first <= bound[0]:  # it may hold rows that come before the bound
            opened += _opened(lake, name, waiting.popleft())
            bound = min(cursor.last for cursor in opened)
        chunks = [chunk for cursor in opened if (chunk := cursor.take(bound)).num_rows]
        opened = [cursor for cursor in opened if cursor.advance()]
        yield in_order(name, pa.concat_tables(chunks)) if len(chunks) > 1 else chunks[0]


def runs(files: Iterable[DataFile]) -> list[list[DataFile]]:
    """Neighbours that are small enough to be read at once; a large file is a run of its own."""
    found: list[list[DataFile]] = []
    rows = size = 0
    for one in files:
        if not found or rows + one.rows > ROW_GROUP or size + one.size > _RUN_BYTES:
            found.append([])
            rows = size = 0
        found[-1].append(one)
        rows, size = rows + one.rows, size + one.size
    return found


class _Cursor:
    """A run that is being read: its present batch, sorted, and what follows."""

    def __init__(self, name: str, batches: Iterator[pa.Table]) -> None:
        self._name, self._batches = name, batches
        self._rows = TABLES[name].schema.empty_table()
        self.last: Key = ()

    def take(self, bound: Key) -> pa.Table:
        """The rows up to ``bound``, which the cursor leaves."""
        count = self._rows.num_rows if self.last <= bound else _count_up_to(self._name, self._rows, bound)
        taken, self._rows = self._rows.slice(0, count), self._rows.slice(count)
        return taken

    def advance(self) -> bool:
        """Make sure that there is a batch; False at the end."""
        while not self._rows.num_rows:
            batch = next(self._batches, None)
            if batch is None:
                return False
            self._rows = in_order(self._name, batch)
            if batch.num_rows:
                end = self._rows.slice(batch.num_rows - 1)
                self.last = tuple(end[column][0].as_py() for column in TABLES[self._name].sort)
        return True


def _opened(lake: Lake, name: str, run: Sequence[DataFile]) -> list[_Cursor]:
    batches: Iterator[pa.Table] = (batch for one in run for batch in read_batches(lake, name, one))
    if len(run) > 1:
        batches = iter([pa.concat_tables(list(batches))])
    cursor = _Cursor(name, batches)
    return [cursor] if cursor.advance() else []


def _count_up_to(name: str, rows: pa.Table, bound: Key) -> int:
    """How many of the sorted rows are not beyond ``bound``."""
    within, equal = pa.scalar(False), pa.scalar(True)
    for column, value in zip(TABLES[name].sort, bound, strict=True):
        within = pc.or_(within, pc.and_(equal, pc.less(rows[column], value)))
        equal = pc.and_(equal, pc.equal(rows[column], value))
    return int(pc.sum(pc.or_(within, equal)).as_py() or 0)
