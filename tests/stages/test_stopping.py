"""When an order stops: once it is certain that too many of its images fail, by faults of its own stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from etl.lake.orders import Order
from etl.stages.stopping import MIN_JUDGED, Judge

ALL_FAIL = {"failed/error": 100}


def judge(*slices: Mapping[str, int], images: int = 1000, tried: int = 0, limit: float = 0.5) -> str | None:
    """What is said after some slices of a hundred; the first ``tried`` images had failed before."""
    items: Sequence[dict[str, Any]] = [{"tries": int(number < tried)} for number in range(images)]
    found = Judge(Order("key", {}, items, 100), limit)
    for number, counts in enumerate(slices):
        found.add(number, counts)
    return found.problem


@pytest.mark.parametrize(
    ("slices", "stops"),
    [
        ([ALL_FAIL] * 5, False),
        ([ALL_FAIL] * 6, True),
        ([{"failed/error": 60, "ok": 40}] * 8, False),
        ([{"failed/error": 60, "ok": 40}] * 9, True),
        ([{"empty/no_tags": 100}] * 10, False),
        ([{"failed/upstream_failed": 100}] * 10, False),
        ([{"failed/taken_down": 100}] * 10, False),
    ],
)
def test_an_order_stops_once_it_is_certain_to_pass_the_limit(slices: list[dict[str, int]], stops: bool) -> None:
    assert (judge(*slices) is not None) == stops


def test_the_limit_may_be_passed_by_no_order() -> None:
    assert judge(*[ALL_FAIL] * 10, limit=1.0) is None


def test_an_order_with_few_images_never_stops() -> None:
    assert judge({"failed/error": MIN_JUDGED - 1}, images=MIN_JUDGED - 1) is None
    assert judge({"failed/error": MIN_JUDGED}, images=MIN_JUDGED) is not None


def test_images_that_failed_before_are_expected_to_fail_again() -> None:
    assert judge(*[ALL_FAIL] * 10, tried=1000) is None
    assert judge(*[ALL_FAIL] * 7, tried=300) is not None, "the first three slices are let off, four of seven are not"
    assert judge(*[ALL_FAIL] * 6, tried=300) is None


def test_the_reasons_are_named_with_the_most_frequent_first() -> None:
    problem = judge(*[{"failed/decode": 20, "failed/error": 80}] * 6)

    assert problem is not None
    assert "600 of 1000 images fail, the limit is 50%: 480 failed/error, 120 failed/decode" in problem
