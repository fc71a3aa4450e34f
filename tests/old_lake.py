"""A lake as the first schema version had it, and parts as its writers write them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from rows import row

from etl.lake import Lake
from etl.lake.migrations import MARKER
from etl.lake.parts import Part, add_action, table_key
from etl.lake.schemas import TABLES, Table
from etl.settings import Settings
from etl.storage import open_store

OLD = [table for table in TABLES.values() if table.since == 1]


def make_old_lake(uri: str, settings: Settings) -> Lake:
    """A lake of schema version 1, with one row in each of its tables; as older writers have it open."""
    store = open_store(uri)
    for table in OLD:
        properties = {
            "delta.dataSkippingStatsColumns": ",".join(table.statistics) or table.columns[0].name,
            "delta.checkpointInterval": "10",
            "delta.enableExpiredLogCleanup": "false",
            "delta.logRetentionDuration": "interval 36500 days",
        }
        DeltaTable.create(store.join(table_key(table.name)), old_schema(table), configuration=properties)
    store.put(MARKER, json.dumps({"schema_version": 1, "created_at": "2026-01-01T00:00:00+00:00"}).encode())
    lake = Lake(store, settings)  # an older groundlake knows no newer schema, so it is not refused
    for table in OLD:
        lake.commit(table.name, "first", [old_part(lake, table.name, [row(table.name)], "first")])
    return lake


def old_schema(table: Table) -> pa.Schema:
    """The columns that a table had in version 1."""
    return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in table.columns if c.since == 1])


def old_part(lake: Lake, name: str, rows: Sequence[dict[str, Any]], key: str) -> AddAction:
    """A part without the columns that came later."""
    schema, buffer = old_schema(TABLES[name]), io.BytesIO()
    data = pa.Table.from_pylist([{column: one[column] for column in schema.names} for one in rows], schema=schema)
    pq.write_table(data, buffer)
    path = f"parts/{key}/00000-old.parquet"
    lake.store.put(f"{table_key(name)}/{path}", buffer.getvalue())
    stats = json.dumps({"numRecords": len(rows), "minValues": {}, "maxValues": {}, "nullCount": {}})
    return add_action(lake.store, Part(name, path, len(rows), len(buffer.getvalue()), stats))
