"""The data files of a table at one version: what rewrites choose from, and how one is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from etl.errors import DataError
from etl.lake.lake import Lake
from etl.lake.parts import table_key
from etl.lake.schemas import TABLES

BATCH = 16_384  # rows decoded at once where a file is streamed


@dataclass(frozen=True)
class DataFile:
    """A file of a table, as its log entry describes it.

    Attributes:
        path: Inside the table.
        size: Bytes.
        rows: Its rows.
        first: Its smallest shard or image id, by which files are ordered.
        annotators: Smallest and largest annotator id; None where the log does not say.
    """

    path: str
    size: int
    rows: int
    first: str
    annotators: tuple[str, str] | None = None


def data_files(table: DeltaTable) -> list[DataFile]:
    """The files of the version that a handle has read."""
    rows = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return [
        DataFile(
            path=unquote(row["path"]),  # the log percent-encodes it
            size=row["size_bytes"],
            rows=row["num_records"] or 0,
            first=str(row.get("min.shard_id") or row.get("min.image_id") or ""),
            annotators=_span(row.get("min.annotator_id"), row.get("max.annotator_id")),
        )
        for row in rows
    ]


def _span(low: str | None, high: str | None) -> tuple[str, str] | None:
    return (low, high) if low and high else None


def read_file(lake: Lake, name: str, one: DataFile) -> pa.Table:
    """The rows of a data file in the table's present schema; columns it was written before are null.

    Raises:
        DataError: It is damaged, or holds other rows than the log says.
        NotFoundError: It is gone.
        StorageError: The store failed.
    """
    return pa.concat_tables([TABLES[name].schema.empty_table(), *read_batches(lake, name, one)])


def read_batches(lake: Lake, name: str, one: DataFile) -> Iterator[pa.Table]:
    """As ``read_file``, a batch at a time: memory holds the encoded file and one decoded batch.

    Raises:
        DataError: It is damaged, or holds other rows than the log says.
        NotFoundError: It is gone.
        StorageError: The store failed.
    """
    schema, data = TABLES[name].schema, pa.BufferReader(lake.store.read(f"{table_key(name)}/{one.path}"))
    try:
        with pq.ParquetFile(data) as file:
            if file.metadata.num_rows != one.rows:
                raise _damaged(name, one, f"holds {file.metadata.num_rows} rows, its log entry says {one.rows}")
            for batch in file.iter_batches(batch_size=BATCH):
                yield _present(pa.Table.from_batches([batch]), schema)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, one, f"cannot be read: {error}") from error


def _damaged(name: str, one: DataFile, what: str) -> DataError:
    return DataError(
        f"{name}: {one.path} {what}; nothing was changed",
        remedy="restore that file from a backup, or redo the unit that wrote it",
    )


def in_order(name: str, rows: pa.Table) -> pa.Table:
    """Rows sorted as files of the table are."""
    columns = [(column, "ascending") for column in TABLES[name].sort]
    return rows.sort_by(columns) if columns else rows


def _present(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows in the present schema, whatever version of it they were written in."""
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(schema.names).cast(schema)
