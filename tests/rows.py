"""Rows that satisfy their table, of which a test names only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from etl.lake.schemas import TABLES, Column

START = datetime(2026, 1, 1, tzinfo=UTC)
SQUARE = "94400000g0"  # the RLE of a mask of 8x8 pixels whose 4x4 from (1, 1) are set
_FITTING = {
    "instances": {"x1": 1.0, "y1": 1.0, "x2": 5.0, "y2": 5.0, "mask_height": 8, "mask_width": 8}
    | {"mask_counts": SQUARE, "mask_area": 16},
    "embeddings": {"vector": [0.5, 0.5]},
    "outcomes": {"status": "ok", "stage": "tag"},
    "downloads": {"status": "ok"},
    "takedowns": {"kind": "image_id"},
    "takedown_events": {"event": "requested"},
    "rewrites": {"table_name": "tags"},
}
_DIGITS = {"image_id": 32, "url_sha256": 32, "text_sha256": 32, "phash": 16}


def at(hours: float) -> datetime:
    """A time, in hours after a fixed one."""
    return START + timedelta(hours=hours)


def row(table: str, **given: Any) -> dict[str, Any]:
    """A row of ``table``: what is given, and something that fits for every other column."""
    values = {**_FITTING.get(table, {}), **given}
    unknown = set(values) - set(TABLES[table].schema.names)
    assert not unknown, f"{table} has no column {unknown}"
    return {c.name: values[c.name] if c.name in values else _default(c) for c in TABLES[table].columns}


def rows(table: str, *given: dict[str, Any]) -> pa.Table:
    """Several rows as a table of the right schema."""
    return pa.Table.from_pylist([row(table, **values) for values in given], schema=TABLES[table].schema)


def image(name: str) -> str:
    """An image id that begins with a name of hex digits, such as ``a``.

    >>> image("a1")
    'a1000000000000000000000000000000'
    """
    return name.ljust(_DIGITS["image_id"], "0")


def _default(column: Column) -> Any:
    if column.nullable:
        return None
    if column.name in _DIGITS:
        return "0" * _DIGITS[column.name]
    if pa.types.is_timestamp(column.type):
        return START
    if pa.types.is_list(column.type):
        return []
    return {pa.string(): "x", pa.bool_(): False, pa.float32(): 0.5}.get(column.type, 1)
