"""Parts: Parquet files written where they will stay, and the Delta actions that name them."""

from __future__ import annotations

import io
import json
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from etl.lake.constraints import conform
from etl.lake.schemas import TABLES
from etl.storage import StorageError, Store

ROW_GROUP = 65_536


@dataclass(frozen=True)
class Part:
    """A Parquet file of one table: path inside the table, rows, bytes, Delta statistics as JSON text."""

    table: str
    path: str
    rows: int
    size: int
    stats: str

    def to_json(self) -> dict[str, Any]:
        """The part as a JSON mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Part:
        """The part of ``to_json``."""
        return cls(**content)


def table_key(table: str) -> str:
    """The folder of a table, relative to the lake."""
    return f"tables/{table}"


def data_paths(table: DeltaTable) -> list[str]:
    """Paths inside the table of the files that the version of a handle names; the log percent-encodes them."""
    return [unquote(path) for path in pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()]


def write_part(store: Store, table: str, rows: pa.Table, folder: str, stem: str) -> Part:
    """Write ``rows`` to ``parts/<folder>/<stem>-<random>.parquet`` of a table; nothing points to it yet.

    Raises:
        ConstraintError: A row breaks a rule of the table.
        StorageError: The store failed.
    """
    rows = conform(table, rows)
    path = f"parts/{folder}/{stem}-{uuid.uuid4().hex[:12]}.parquet"  # never percent-encoded, never with a leading _
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd", compression_level=3, row_group_size=ROW_GROUP)
    data = buffer.getvalue()
    store.put(f"{table_key(table)}/{path}", data)
    return Part(table, path, rows.num_rows, len(data), _statistics(table, rows))


def _statistics(table: str, rows: pa.Table) -> str:
    # A file without statistics of a column makes pyarrow datasets answer wrongly: all of TABLES' are written.
    stats: dict[str, Any] = {"numRecords": rows.num_rows, "minValues": {}, "maxValues": {}, "nullCount": {}}
    for name in TABLES[table].statistics:
        stats["nullCount"][name] = rows[name].null_count
        if rows[name].null_count < rows.num_rows:
            extremes = pc.min_max(rows[name]).as_py()
            stats["minValues"][name], stats["maxValues"][name] = extremes["min"], extremes["max"]
    return json.dumps(stats)


def add_action(store: Store, part: Part) -> AddAction:
    """The Delta action that adds a part.

    Raises:
        StorageError: The file is missing or has another size, which would break every reader.
    """
    found = store.stat(f"{table_key(part.table)}/{part.path}")
    if found is None or found.size != part.size:
        seen = "nothing" if found is None else f"{found.size} bytes"
        raise StorageError("commit", part.path, f"{part.size} bytes expected, {seen} there")
    return AddAction(part.path, part.size, {}, int(time.time() * 1000), True, part.stats)
