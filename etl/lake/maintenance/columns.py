"""What one column of a data file holds, without fetching the rest of the file."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.errors import DataError
from etl.lake.lake import Lake
from etl.lake.parts import table_key
from etl.storage import NotFoundError, Store


def distinct_values(lake: Lake, name: str, path: str, column: str) -> set[str]:
    """The values of a text column of a file; it holds few distinct ones.

    Raises:
        DataError: The file is damaged.
        NotFoundError: It is gone.
        StorageError: The store failed.
    """
    found: set[str] = set()
    for values in _row_groups(lake, name, path, column, None):
        found.update(pc.unique(values.drop_null()).to_pylist())
    return found


def count_rows(lake: Lake, name: str, path: str, column: str, wanted: Collection[str]) -> int:
    """How many rows of a file have one of the ``wanted`` texts in a column; errors as ``distinct_values``."""
    chosen, count = pa.array(sorted(wanted), pa.string()), 0
    for values in _row_groups(lake, name, path, column, (min(wanted), max(wanted))):
        count += pc.sum(pc.is_in(values, value_set=chosen)).as_py() or 0
    return count


def _row_groups(
    lake: Lake, name: str, path: str, column: str, span: tuple[str, str] | None
) -> Iterator[pa.ChunkedArray]:
    """The column of each row group, but for those that by their statistics hold nothing within ``span``."""
    key = f"{table_key(name)}/{path}"
    found = lake.store.stat(key)
    if found is None:
        raise NotFoundError(lake.uri, key)
    try:
        with pq.ParquetFile(_Ranges(lake.store, key, found.size)) as file:
            number = file.schema_arrow.names.index(column)
            for group in range(file.metadata.num_row_groups):
                if span is None or _may_hold(file.metadata.row_group(group), column, span):
                    yield file.read_row_group(group, columns=[file.schema_arrow.names[number]])[column]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{name}: {path} cannot be read: {error}",
            remedy="restore that file from a backup, or redo the unit that wrote it",
        ) from error


def _may_hold(group: pq.RowGroupMetaData, column: str, span: tuple[str, str]) -> bool:
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == column:
            known = chunk.statistics
            if known is None or not known.has_min_max:
                return True
            return bool(known.min <= span[1] and span[0] <= known.max)
    return True


class _Ranges(io.RawIOBase):
    """An object as a file of which only the spans that are read are fetched."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        super().__init__()
        self._store, self._key, self._size, self._at = store, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        data = self._store.read_range(self._key, self._at, length) if length else b""
        self._at += len(data)
        return data
