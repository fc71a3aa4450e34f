"""Data files written a row group at a time, so that memory does not grow with the file."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.lake.lake import Lake
from etl.lake.parts import ROW_GROUP, Part, table_key
from etl.lake.schemas import TABLES
from etl.lake.scratch import scratch_folder

SCRATCH_PREFIX = "rewrite-"


def write_stream(lake: Lake, name: str, chunks: Iterable[pa.Table], folder: str, stem: str) -> Part | None:
    """Write rows of a table again, as they come, to ``parts/<folder>/<stem>-<random>.parquet``; nothing names it yet.

    The rules of the table are not asked: the rows satisfied those of their time, and a rule that came later must stop
    neither compaction nor a takedown.

    Args:
        lake: The lake; its scratch folder holds the file until it is whole.
        name: The table.
        chunks: Rows in the table's schema and order.
        folder: Folder below ``parts/``.
        stem: Beginning of the file's name.

    Returns:
        The part, or None when there was no row.

    Raises:
        RetryableError: The scratch folder or the store failed.
    """
    statistics = _Statistics(name)
    with scratch_folder(lake.settings.scratch, SCRATCH_PREFIX, "no row changed") as place:
        file = place / "part.parquet"
        schema = TABLES[name].schema
        with pq.ParquetWriter(file, schema, compression="zstd", compression_level=3) as writer:
            for group in row_groups(chunks):
                writer.write_table(group, row_group_size=ROW_GROUP)
                statistics.add(group)
        if not statistics.rows:
            return None
        path = f"parts/{folder}/{stem}-{uuid.uuid4().hex[:12]}.parquet"
        lake.store.publish_file(file, f"{table_key(name)}/{path}")
        return Part(name, path, statistics.rows, file.stat().st_size, statistics.text())


def row_groups(chunks: Iterable[pa.Table], size: int = ROW_GROUP) -> Iterator[pa.Table]:
    """The same rows in tables of ``size`` rows each; only the last is smaller."""
    waiting: list[pa.Table] = []
    count = 0
    for chunk in chunks:
        waiting.append(chunk)
        count += chunk.num_rows
        if count < size:
            continue
        rows = pa.concat_tables(waiting)
        whole = count - count % size
        yield from (rows.slice(start, size) for start in range(0, whole, size))
        waiting, count = [rows.slice(whole)], count - whole
    if count:
        yield pa.concat_tables(waiting)


class _Statistics:
    """What a log entry says of a file's columns, gathered while it is written; see ``etl.lake.parts``."""

    def __init__(self, name: str) -> None:
        self.rows = 0
        self._nulls = dict.fromkeys(TABLES[name].statistics, 0)
        self._low: dict[str, str] = {}
        self._high: dict[str, str] = {}

    def add(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        for column in self._nulls:
            self._nulls[column] += rows[column].null_count
            if rows[column].null_count < rows.num_rows:
                extremes = pc.min_max(rows[column]).as_py()
                self._low[column] = min(extremes["min"], self._low.get(column, extremes["min"]))
                self._high[column] = max(extremes["max"], self._high.get(column, extremes["max"]))

    def text(self) -> str:
        found: dict[str, Any] = {"numRecords": self.rows, "minValues": self._low, "maxValues": self._high}
        return json.dumps(found | {"nullCount": self._nulls})
