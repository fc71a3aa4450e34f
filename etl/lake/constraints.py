"""What a row must satisfy before it may enter a table; a Delta commit of our own checks nothing by itself."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import GroundlakeError
from etl.lake.schemas import TABLES

_TOLERANCE = 0.51  # a box may touch the border; rounding to 1/8 px must not fail it


class ConstraintError(GroundlakeError):
    """Rows break a rule of their table: a bug of the stage that made them, never committed."""

    def __init__(self, table: str, rule: str, count: int, example: object) -> None:
        super().__init__(f"table {table!r}: {count} rows break {rule!r}, such as {example}")
        self.table, self.rule, self.count = table, rule, count


def conform(name: str, rows: pa.Table) -> pa.Table:
    """Cast ``rows`` to the table's schema, sort them and check every rule.

    Raises:
        ConstraintError: A column is missing, surplus or of another type, or a row breaks a rule.
    """
    table = TABLES[name]
    if set(rows.column_names) != set(table.schema.names):
        difference = sorted(set(rows.column_names) ^ set(table.schema.names))
        raise ConstraintError(name, "the columns of the schema", rows.num_rows, difference)
    for column in table.columns:
        if not column.nullable and rows[column.name].null_count:
            raise ConstraintError(name, f"{column.name} is not null", rows[column.name].null_count, column.doc)
    try:
        rows = rows.select(table.schema.names).cast(table.schema)
    except (pa.ArrowInvalid, ValueError) as error:
        raise ConstraintError(name, "the types of the schema", rows.num_rows, error) from error
    for rule, broken in _rules(name, rows):
        wrong = rows.filter(pc.fill_null(broken, True))
        if wrong.num_rows:
            raise ConstraintError(name, rule, wrong.num_rows, wrong.slice(0, 1).to_pylist()[0])
    return rows.sort_by([(column, "ascending") for column in table.sort]) if table.sort else rows


def _rules(name: str, rows: pa.Table) -> list[tuple[str, pa.ChunkedArray]]:
    def outside(column: str, low: float, high: float) -> pa.ChunkedArray:
        return pc.invert(pc.and_(pc.greater_equal(rows[column], low), pc.less_equal(rows[column], high)))

    if name == "instances":
        return [
            ("x1 < x2 and y1 < y2", pc.invert(pc.and_(_less(rows, "x1", "x2"), _less(rows, "y1", "y2")))),
            ("x1 >= 0 and y1 >= 0", pc.or_(pc.less(rows["x1"], -_TOLERANCE), pc.less(rows["y1"], -_TOLERANCE))),
            ("box inside the image", pc.or_(_beyond(rows, "x2", "mask_width"), _beyond(rows, "y2", "mask_height"))),
            ("score in 0..1", outside("score", 0, 1)),
            ("mask area in 0..area of the image", _mask_area_is_wrong(rows)),
        ]
    if name == "images":
        return [
            ("width >= 1 and height >= 1", pc.or_(pc.less(rows["width"], 1), pc.less(rows["height"], 1))),
            ("orientation in 1..8", outside("orientation", 1, 8)),
        ]
    if name in ("outcomes", "downloads"):
        allowed = pa.array(["ok", "failed"] if name == "downloads" else ["ok", "empty", "failed"])
        return [(f"status in {allowed.to_pylist()}", pc.invert(pc.is_in(rows["status"], value_set=allowed)))]
    return []


def _less(rows: pa.Table, low: str, high: str) -> pa.ChunkedArray:
    return pc.less(rows[low], rows[high])


def _beyond(rows: pa.Table, edge: str, size: str) -> pa.ChunkedArray:
    return pc.greater(rows[edge], pc.add(rows[size].cast(pa.float32()), _TOLERANCE))


def _mask_area_is_wrong(rows: pa.Table) -> pa.ChunkedArray:
    pixels = pc.multiply(rows["mask_width"].cast(pa.int64()), rows["mask_height"].cast(pa.int64()))
    return pc.or_(pc.less(rows["mask_area"], 0), pc.greater(rows["mask_area"], pixels))
