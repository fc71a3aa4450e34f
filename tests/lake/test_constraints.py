"""The rules of rows: one line per rule that a stage could break."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
from rows import image, rows

from etl.lake.constraints import ConstraintError, conform
from etl.lake.schemas import TABLES

NAN = float("nan")
INF = float("inf")
BOX = {"x1": 0.0, "y1": 0.0, "x2": 8.0, "y2": 8.0}

ALLOWED = [
    ("instances", BOX),
    ("instances", {**BOX, "x1": -0.5, "x2": 8.5}),  # within half a pixel: rounding
    ("instances", {"score": 0.0, "predicted_iou": 1.0}),
    ("instances", {"mask_counts": "P2", "mask_area": 0}),  # nothing set
    ("instances", {"mask_counts": "0P2", "mask_area": 64}),  # all set
    ("images", {"orientation": 8}),
    ("tags", {"tags": []}),
    ("tags", {"tags": [{"tag": "dog", "score": 0.0}, {"tag": "cat", "score": 1.0}]}),
    ("outcomes", {"status": "empty", "reason": "no_boxes"}),
    ("outcomes", {"status": "failed"}),
    ("downloads", {"status": "failed", "error_class": "dns"}),
    ("downloads", {"image_id": None, "http_status": None, "bytes": None}),
    ("captions", {"instance_id": None, "score": None}),
    ("captions", {"score": 0.0}),
    ("embeddings", {"vector": [0.0, -1e30]}),
]

REFUSED = [
    ("instances", {**BOX, "x1": 8.0}, "x1 < x2"),
    ("instances", {**BOX, "y1": 9.0}, "y1 < y2"),
    ("instances", {**BOX, "x1": NAN}, "x1 is finite"),
    ("instances", {**BOX, "y2": NAN}, "y2 is finite"),
    ("instances", {**BOX, "x2": INF}, "x2 is finite"),
    ("instances", {**BOX, "x1": -1.0}, "x1 >= -0.51"),
    ("instances", {**BOX, "x2": 9.0}, "inside the image"),
    ("instances", {**BOX, "y2": 9.0}, "inside the image"),
    ("instances", {"area": -1.0}, "area >= 0"),
    ("instances", {"score": 1.1}, "score in 0..1"),
    ("instances", {"score": NAN}, "score is finite"),
    ("instances", {"predicted_iou": -0.1}, "predicted_iou in 0..1"),
    ("instances", {"mask_counts": ""}, "mask_height x mask_width pixels"),
    ("instances", {"mask_counts": "d1"}, "mask_height x mask_width pixels"),  # 52 pixels
    ("instances", {"mask_height": 9}, "mask_height x mask_width pixels"),
    ("instances", {"mask_height": 0, "mask_width": 0, "x2": 0.5, "y2": 0.5, "x1": 0.0, "y1": 0.0}, "mask_height >= 1"),
    ("instances", {"mask_area": -1}, "pixels of the mask are set"),
    ("instances", {"mask_area": 17}, "pixels of the mask are set"),
    ("instances", {"mask_counts": "[1, 2]"}, "compressed RLE"),
    ("instances", {"mask_counts": "94400000g"}, "compressed RLE"),  # the last number is cut off
    ("instances", {"instance_id": ""}, "instance_id is not empty"),
    ("instances", {"unit": ""}, "unit is not empty"),
    ("tags", {"image_id": "dog.jpg"}, "image_id is 32 hex digits"),
    ("tags", {"image_id": "A" * 32}, "image_id is 32 hex digits"),
    ("tags", {"image_id": "0" * 32 + "\n"}, "image_id is 32 hex digits"),
    ("tags", {"tags": [{"tag": "dog", "score": 0.5}, {"tag": "cat", "score": 1.5}]}, "score of a tag in 0..1"),
    ("tags", {"tags": [{"tag": "dog", "score": NAN}]}, "score of a tag in 0..1"),
    ("tags", {"tags": [{"tag": "dog", "score": None}]}, "score of a tag in 0..1"),
    ("tags", {"tags": [{"tag": "", "score": 0.5}]}, "a tag is not empty"),
    ("tags", {"tags": [{"tag": None, "score": 0.5}]}, "a tag is not empty"),
    ("captions", {"score": 0.1}, "score in -inf..0"),
    ("captions", {"score": NAN}, "score is finite"),
    ("captions", {"score": -INF}, "score is finite"),
    ("embeddings", {"vector": []}, "not empty"),
    ("embeddings", {"vector": [0.5, NAN]}, "numbers of a vector are finite"),
    ("embeddings", {"vector": [0.5, None]}, "numbers of a vector are finite"),
    ("embeddings", {"vector": [0.5]}, "vectors of an encoder have one length"),
    ("images", {"width": 0}, "width >= 1"),
    ("images", {"offset": -1}, "offset >= 0"),
    ("images", {"length": 0}, "length >= 1"),
    ("images", {"orientation": 9}, "orientation in 1..8"),
    ("images", {"phash": "0"}, "phash is 16 hex digits"),
    ("sightings", {"original_width": 0}, "original_width >= 1"),
    ("outcomes", {"status": "perhaps"}, "status in"),
    ("outcomes", {"seconds": NAN}, "seconds is finite"),
    ("downloads", {"status": "empty"}, "status in"),
    ("downloads", {"bytes": -1}, "bytes >= 0"),
    ("downloads", {"image_id": ""}, "image_id is 32 hex digits"),
    ("takedowns", {"kind": "name"}, "kind in"),
    ("takedown_events", {"event": "forgotten"}, "event in"),
    ("rewrites", {"table_name": "pictures"}, "table_name in"),
    ("runs", {"seconds": -1.0}, "seconds >= 0"),
]


@pytest.mark.parametrize(("table", "values"), ALLOWED)
def test_allowed(table: str, values: dict[str, Any]) -> None:
    assert conform(table, rows(table, values)).num_rows == 1


@pytest.mark.parametrize(("table", "values", "rule"), REFUSED)
def test_refused(table: str, values: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConstraintError, match=re.escape(rule)) as caught:
        conform(table, rows(table, {}, values, values))
    assert (caught.value.table, caught.value.count) == (table, 2)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_takes_rows_that_fit_and_none_at_all(name: str) -> None:
    assert conform(name, rows(name, {}, {})).num_rows == 2
    assert conform(name, TABLES[name].schema.empty_table()).num_rows == 0


def test_encoders_may_differ_in_length() -> None:
    short, long = {"annotator_id": "a", "vector": [1.0]}, {"annotator_id": "b", "vector": [1.0, 2.0]}
    assert conform("embeddings", rows("embeddings", short, long, short)).num_rows == 3


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
    data = rows("tags", *({"shard_id": s, "image_id": image(i)} for s, i in ["2b", "1b", "2a", "1a"]))
    done = conform("tags", data)
    assert [s + i[0] for s, i in zip(*(done[c].to_pylist() for c in TABLES["tags"].sort), strict=True)] == [
        "1a", "1b", "2a", "2b",
    ]  # fmt: skip
