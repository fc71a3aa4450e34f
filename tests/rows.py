"""Rows that satisfy their table, of which a test names only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from etl.lake.schemas import TABLES

START = datetime(2026, 1, 1, tzinfo=UTC)
_FITTING = {
    "instances": {"x1": 1.0, "y1": 1.0, "x2": 5.0, "y2": 5.0, "mask_height": 8, "mask_width": 8, "mask_area": 16},
    "outcomes": {"status": "ok", "stage": "tag"},
    "downloads": {"status": "ok"},
}


def at(hours: float) -> datetime:
    """A time, in hours after a fixed one."""
    return START + timedelta(hours=hours)


def row(table: str, **given: Any) -> dict[str, Any]:
    """A row of ``table``: what is given, and something that fits for every other column."""
    values = {**_FITTING.get(table, {}), **given}
    unknown = set(values) - set(TABLES[table].schema.names)
    assert not unknown, f"{table} has no column {unknown}"
    return {c.name: values[c.name] if c.name in values else _default(c.type, c.nullable) for c in TABLES[table].columns}


def rows(table: str, *given: dict[str, Any]) -> pa.Table:
    """Several rows as a table of the right schema."""
    return pa.Table.from_pylist([row(table, **values) for values in given], schema=TABLES[table].schema)


def _default(type_: pa.DataType, nullable: bool) -> Any:
    if nullable:
        return None
    if pa.types.is_timestamp(type_):
        return START
    if pa.types.is_list(type_):
        return []
    return {pa.string(): "x", pa.bool_(): False, pa.float32(): 0.5}.get(type_, 1)
