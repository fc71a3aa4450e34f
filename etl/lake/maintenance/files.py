"""The data files of a table at one version: what rewrites choose from, and how one is read."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from etl.errors import DataError
from etl.lake.lake import Lake
from etl.lake.parts import table_key
from etl.lake.schemas import TABLES


@dataclass(frozen=True)
class DataFile:
    """A file of a table; ``first`` is its smallest shard or image id, by which files are ordered."""

    path: str
    size: int
    rows: int
    first: str


def data_files(table: DeltaTable) -> list[DataFile]:
    """The files of the version that a handle has read."""
    rows = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return [
        DataFile(
            path=unquote(row["path"]),  # the log percent-encodes it
            size=row["size_bytes"],
            rows=row["num_records"] or 0,
            first=str(row.get("min.shard_id") or row.get("min.image_id") or ""),
        )
        for row in rows
    ]


def read_file(lake: Lake, name: str, one: DataFile) -> pa.Table:
    """The rows of a data file in the table's present schema; columns it was written before are null.

    Raises:
        DataError: It holds other rows than the log says.
        NotFoundError: It is gone.
        StorageError: The store failed.
    """
    schema = TABLES[name].schema
    rows = pq.read_table(pa.BufferReader(lake.store.read(f"{table_key(name)}/{one.path}")))
    if rows.num_rows != one.rows:
        raise DataError(
            f"{name}: {one.path} holds {rows.num_rows} rows, its log entry says {one.rows}; nothing was changed",
            remedy="restore that file from a backup, or redo the unit that wrote it",
        )
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(schema.names).cast(schema)
