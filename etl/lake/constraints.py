"""What a row must satisfy before it may enter a table; a Delta commit of our own checks nothing by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import GroundlakeError
from etl.lake.rle import measure
from etl.lake.schemas import TABLES

_TOLERANCE = 0.51  # a box may touch the border; rounding to 1/8 px must not fail it
# Digits of the ids that are made of content and nothing else; others are only not empty.
_HEX = {"image_id": 32, "url_sha256": 32, "text_sha256": 32, "phash": 16}
_AT_LEAST: dict[str, dict[str, float]] = {
    "sources": {"n_urls": 0},
    "shards": {"attempt": 1, "n_urls": 1},
    "downloads": {"attempt": 1, "bytes": 0},
    "images": {"attempt": 1, "offset": 0, "length": 1, "width": 1, "height": 1},
    "sightings": {"original_width": 1, "original_height": 1},
    "instances": {"x1": -_TOLERANCE, "y1": -_TOLERANCE, "area": 0, "mask_height": 1, "mask_width": 1},
    "outcomes": {"seconds": 0},
    "runs": dict.fromkeys(("seconds", "network_seconds", "decode_wait_seconds", "images", "ok", "empty", "failed"), 0.0)
    | {"batch": 1.0},
    "manifests": {"n_images": 0, "n_annotations": 0},
    "orders": {"n_items": 0},
    "rewrites": {"rows_removed": 0},
}
_BETWEEN: dict[str, dict[str, tuple[float, float]]] = {
    "images": {"orientation": (1, 8)},
    "downloads": {"http_status": (100, 999)},
    "instances": {"score": (0, 1), "predicted_iou": (0, 1)},
    "captions": {"score": (-math.inf, 0)},
}
_ONE_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "downloads": {"status": ("ok", "failed")},
    "outcomes": {"status": ("ok", "empty", "failed")},
    "takedowns": {"kind": ("image_id", "url_sha256", "source_sha256")},
    "takedown_events": {"event": ("requested", "rewritten", "purged")},
    "rewrites": {"table_name": tuple(TABLES)},
}


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
    for rule, broken in _rules(name, rows) if rows.num_rows else ():
        wrong = rows.filter(broken)  # not where it is null: a column that may not be null holds none here
        if wrong.num_rows:
            raise ConstraintError(name, rule, wrong.num_rows, wrong.slice(0, 1).to_pylist()[0])
    return rows.sort_by([(column, "ascending") for column in table.sort]) if table.sort else rows


def _rules(name: str, rows: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Every rule of a table with the rows that break it; null where a comparison met a null."""
    yield from _rules_by_type(name, rows)
    for column, low in _AT_LEAST.get(name, {}).items():
        yield f"{column} >= {low}", pc.less(rows[column], low)
    for column, (low, high) in _BETWEEN.get(name, {}).items():
        yield f"{column} in {low}..{high}", pc.or_(pc.less(rows[column], low), pc.greater(rows[column], high))
    for column, allowed in _ONE_OF.get(name, {}).items():
        yield f"{column} in {list(allowed)}", pc.invert(pc.is_in(rows[column], value_set=pa.array(allowed)))
    yield from _OWN.get(name, lambda _: ())(rows)


def _rules_by_type(name: str, rows: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for column in TABLES[name].columns:
        values = rows[column.name]
        if pa.types.is_floating(column.type):
            yield f"{column.name} is finite", pc.invert(pc.is_finite(values))
        elif column.name in _HEX:
            yield (
                f"{column.name} is {_HEX[column.name]} hex digits",
                pc.invert(pc.match_substring_regex(values, f"^[0-9a-f]{{{_HEX[column.name]}}}$")),
            )
        elif column.name == "unit" or column.name.endswith("_id"):
            yield f"{column.name} is not empty", pc.equal(values, "")


def _instances(rows: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    yield "x1 < x2 and y1 < y2", pc.invert(pc.and_(pc.less(rows["x1"], rows["x2"]), pc.less(rows["y1"], rows["y2"])))
    yield "box inside the image", pc.or_(_beyond(rows, "x2", "mask_width"), _beyond(rows, "y2", "mask_height"))
    mask = measure(rows["mask_counts"])
    pixels = pc.multiply(rows["mask_width"].cast(pa.int64()), rows["mask_height"].cast(pa.int64()))
    yield "mask_counts is compressed RLE", _chunked(mask.broken)
    yield "the mask has mask_height x mask_width pixels", pc.not_equal(_chunked(mask.pixels), pixels)
    yield "mask_area pixels of the mask are set", pc.not_equal(_chunked(mask.area), rows["mask_area"])


def _beyond(rows: pa.Table, edge: str, size: str) -> pa.ChunkedArray:
    return pc.greater(rows[edge], pc.add(rows[size].cast(pa.float32()), _TOLERANCE))


def _tags(rows: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    tags = pa.array(rows["tags"].combine_chunks())
    owner, one = pc.list_parent_indices(tags), pc.list_flatten(tags)
    tag, score = pc.struct_field(one, "tag"), pc.struct_field(one, "score")
    fits = pc.and_(pc.greater_equal(score, 0), pc.less_equal(score, 1))  # not of NaN
    yield "a tag is not empty", _of_owner(owner, pc.fill_null(pc.equal(tag, ""), True), len(tags))
    yield "the score of a tag in 0..1", _of_owner(owner, pc.invert(pc.fill_null(fits, False)), len(tags))


def _embeddings(rows: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    vectors = pa.array(rows["vector"].combine_chunks())
    owner, one = pc.list_parent_indices(vectors), pc.list_flatten(vectors)
    wrong = pc.invert(pc.fill_null(pc.is_finite(one), False))
    yield "the numbers of a vector are finite", _of_owner(owner, wrong, len(vectors))
    lengths = pc.list_value_length(vectors)
    yield "a vector is not empty", _chunked(pc.equal(lengths, 0))
    by_encoder = pa.table({"annotator_id": rows["annotator_id"], "length": lengths}).group_by("annotator_id")
    usual = by_encoder.aggregate([("length", "max")])
    expected = pc.take(usual["length_max"], pc.index_in(rows["annotator_id"], value_set=usual["annotator_id"]))
    yield "the vectors of an encoder have one length", pc.not_equal(lengths, expected)


def _of_owner(owner: pa.Array, wrong: pa.Array, rows: int) -> pa.ChunkedArray:
    """Which rows have an element in a list that is wrong."""
    found = np.zeros(rows, dtype=bool)
    found[owner.filter(wrong).to_numpy()] = True
    return _chunked(found)


def _chunked(values: Any) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values)])


_OWN: dict[str, Callable[[pa.Table], Iterator[tuple[str, pa.ChunkedArray]]]] = {
    "instances": _instances,
    "tags": _tags,
    "embeddings": _embeddings,
}
