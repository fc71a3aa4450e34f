"""The rules of rows: one line per rule that a stage could break."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from rows import rows

from etl.lake.constraints import ConstraintError, conform
from etl.lake.schemas import TABLES

NAN = float("nan")
BOX = {"x1": 0.0, "y1": 0.0, "x2": 8.0, "y2": 8.0, "mask_height": 8, "mask_width": 8}

ALLOWED = [
    ("instances", BOX),
    ("instances", {**BOX, "x1": -0.5, "x2": 8.5}),  # within half a pixel: rounding
    ("instances", {**BOX, "score": 0.0, "mask_area": 0}),
    ("instances", {**BOX, "score": 1.0, "mask_area": 64}),
    ("images", {"orientation": 8}),
    ("outcomes", {"status": "empty", "reason": "no_boxes"}),
    ("outcomes", {"status": "failed"}),
    ("downloads", {"status": "failed", "error_class": "dns"}),
    ("captions", {"instance_id": None}),
]

REFUSED = [
    ("instances", {**BOX, "x1": 8.0}, "x1 < x2"),
    ("instances", {**BOX, "y1": 9.0}, "y1 < y2"),
    ("instances", {**BOX, "x1": NAN}, "x1 < x2"),
    ("instances", {**BOX, "y2": NAN}, "y1 < y2"),
    ("instances", {**BOX, "x1": -1.0}, "x1 >= 0"),
    ("instances", {**BOX, "x2": 9.0}, "inside the image"),
    ("instances", {**BOX, "y2": 9.0}, "inside the image"),
    ("instances", {**BOX, "score": 1.1}, "score in 0..1"),
    ("instances", {**BOX, "score": NAN}, "score in 0..1"),
    ("instances", {**BOX, "mask_area": -1}, "mask area"),
    ("instances", {**BOX, "mask_area": 65}, "mask area"),
    ("images", {"width": 0}, "width >= 1"),
    ("images", {"orientation": 9}, "orientation in 1..8"),
    ("outcomes", {"status": "perhaps"}, "status in"),
    ("downloads", {"status": "empty"}, "status in"),
]


@pytest.mark.parametrize(("table", "values"), ALLOWED)
def test_allowed(table: str, values: dict[str, Any]) -> None:
    assert conform(table, rows(table, values)).num_rows == 1


@pytest.mark.parametrize(("table", "values", "rule"), REFUSED)
def test_refused(table: str, values: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConstraintError, match=rule) as caught:
        conform(table, rows(table, {}, values, values))
    assert (caught.value.table, caught.value.count) == (table, 2)


def test_a_null_where_none_may_be_names_the_column() -> None:
    data = rows("tags", {})
    data = data.set_column(0, "image_id", pa.array([None], pa.string()))
    with pytest.raises(ConstraintError, match="image_id is not null"):
        conform("tags", data)


@pytest.mark.parametrize("change", ["missing", "surplus"])
def test_other_columns_are_named(change: str) -> None:
    data = rows("tags", {})
    data = data.drop_columns(["unit"]) if change == "missing" else data.append_column("extra", pa.array([1]))
    with pytest.raises(ConstraintError, match="unit" if change == "missing" else "extra"):
        conform("tags", data)


def test_another_type_is_refused_where_it_would_lose_something() -> None:
    data = rows("images", {}).drop_columns(["width"]).append_column("width", pa.array([2**40]))
    with pytest.raises(ConstraintError, match="types of the schema"):
        conform("images", data)


def test_columns_may_come_in_any_order_and_leave_in_the_tables() -> None:
    data = rows("tags", {})
    assert conform("tags", data.select(data.column_names[::-1])).schema == TABLES["tags"].schema


def test_rows_leave_sorted_as_the_table_says() -> None:
    data = rows("tags", *({"shard_id": s, "image_id": i} for s, i in ["2b", "1b", "2a", "1a"]))
    done = conform("tags", data)
    assert [s + i for s, i in zip(*(done[c].to_pylist() for c in TABLES["tags"].sort), strict=True)] == [
        "1a", "1b", "2a", "2b",
    ]  # fmt: skip
