"""From answers to rows: outcomes with their digests, and tables in which no row can poison another image's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from etl.lake.constraints import ConstraintError, conform
from etl.lake.ids import digest
from etl.lake.schemas import TABLES
from etl.stages.contract import Result, Row
from etl.stages.failures import words
from etl.stages.slices import Answer

# What conform and Arrow raise on rows that do not fit their table.
_MISFIT = (ConstraintError, pa.ArrowException, ValueError, TypeError, OverflowError)
_MASK, _IMAGE = ("mask_width", "mask_height"), ("width", "height")


@dataclass(frozen=True)
class Header:
    """What all rows of an order share."""

    stage: str
    annotator_id: str
    unit: str
    requested_at: datetime


def value_digest(stage: str, result: Result) -> str:
    """Digest of what a result says; downstream is stale when it changes.

    Raises:
        ValueError: The value holds a number that is not finite.
        TypeError: The value is not JSON.
    """
    if result.status == "ok":
        return digest(stage, result.value)
    return digest(result.status, result.reason)


def slice_tables(header: Header, answers: Sequence[Answer]) -> tuple[dict[str, pa.Table], dict[str, int]]:
    """The tables of a slice and its counts by ``status`` or ``status/reason``.

    An image whose rows break a rule of their table loses all its rows and becomes ``failed/constraint``.

    Args:
        header: What all rows share.
        answers: One per item.
    """
    checked = [_with_digest(header, answer) for answer in answers]
    tables, broken = _row_tables(header, checked)
    if broken:
        checked = [_failed(a, broken[a.item["image_id"]]) if a.item["image_id"] in broken else a for a in checked]
        tables, _ = _row_tables(header, checked)
    outcomes = [_outcome(header, answer) for answer in checked]
    tables["outcomes"] = pa.Table.from_pylist(outcomes, schema=TABLES["outcomes"].schema)
    counts = Counter(
        a.result.status if a.result.status == "ok" else f"{a.result.status}/{a.result.reason}" for a in checked
    )
    return tables, dict(sorted(counts.items()))


def _failed(answer: Answer, error: str) -> Answer:
    return replace(answer, result=Result("failed", "constraint", error=error, retryable=True))


def _with_digest(header: Header, answer: Answer) -> Answer:
    """The answer, or a failed one when no digest can be made of its value."""
    if answer.result.status == "failed":
        return replace(answer, result=replace(answer.result, rows={}))  # half a result must never show
    try:
        value_digest(header.stage, answer.result)
    except (ValueError, TypeError) as error:
        return _failed(answer, f"value: {words(error)}")
    return answer


def _row_tables(header: Header, answers: Sequence[Answer]) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """All tables but outcomes, and the images whose rows do not fit, with the rule they break."""
    tables: dict[str, pa.Table] = {}
    broken: dict[str, str] = {}
    for name in sorted({name for answer in answers for name in answer.result.rows}):
        try:
            tables[name] = conform(name, _table(header, name, answers))
        except _MISFIT:
            offenders = _offenders(header, name, answers)
            if not offenders:  # a rule over several images: nobody to single out
                raise
            broken.update(offenders)
    return tables, broken


def _offenders(header: Header, name: str, answers: Sequence[Answer]) -> dict[str, str]:
    found: dict[str, str] = {}
    for answer in answers:
        try:
            conform(name, _table(header, name, [answer]))
        except _MISFIT as error:
            found[answer.item["image_id"]] = f"table {name!r}: {words(error)}"
    return found


def _table(header: Header, name: str, answers: Sequence[Answer]) -> pa.Table:
    schema = TABLES[name].schema
    rows = [_complete(header, schema, answer, row) for answer in answers for row in answer.result.rows.get(name, ())]
    if "image_id" not in schema.names:  # rows that images share, such as the embedding of a text
        rows = list({tuple(row.get(column) for column in TABLES[name].sort): row for row in rows}.values())
    return pa.Table.from_pylist(rows, schema=schema)


def _complete(header: Header, schema: pa.Schema, answer: Answer, row: Row) -> Mapping[str, Any]:
    own = {
        "image_id": answer.item["image_id"],
        "shard_id": answer.item["shard_id"],
        "annotator_id": header.annotator_id,
        "unit": header.unit,
    }
    if "mask_height" in schema.names:
        _check_mask_size(answer, row)
    surplus = set(row) - set(schema.names)
    if surplus or set(row) & set(own):
        raise ValueError(f"columns {sorted(surplus | set(row) & set(own))} do not belong to a stage's row")
    return {**row, **{column: value for column, value in own.items() if column in schema.names}}


def _check_mask_size(answer: Answer, row: Row) -> None:
    """A mask of another picture's size fits its own table, but no trainer's picture."""
    size, expected = (tuple(one.get(side) for side in sides) for one, sides in ((row, _MASK), (answer.item, _IMAGE)))
    if size != expected:
        raise ValueError(f"a mask of {size[0]}x{size[1]} pixels, of an image of {expected[0]}x{expected[1]}")


def _outcome(header: Header, answer: Answer) -> Row:
    result = answer.result
    return {
        "image_id": answer.item["image_id"],
        "shard_id": answer.item["shard_id"],
        "stage": header.stage,
        "annotator_id": header.annotator_id,
        "unit": header.unit,
        "requested_at": header.requested_at,
        "status": result.status,
        "reason": result.reason,
        "error": result.error,
        "retryable": result.retryable,
        "input_digest": answer.item["input_digest"],
        "value_digest": value_digest(header.stage, result),
        "seconds": answer.seconds,
    }
