"""Boxes: conversion, clipping, suppression."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.stages.boxes import iou, is_degenerate, suppress, to_pixels

SHARES = st.floats(min_value=-1.5, max_value=2.5, width=32)


def test_centre_and_size_become_corners_without_swapping_the_axes():
    boxes = np.asarray([[0.25, 0.5, 0.1, 0.2]], np.float32)
    assert to_pixels(boxes, 400, 100).tolist() == [[80.0, 40.0, 120.0, 60.0]]


@given(st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES), min_size=1), st.integers(1, 5000), st.integers(1, 5000))
def test_boxes_never_leave_the_picture_and_lie_on_eighths(shares: list[tuple[float, ...]], width: int, height: int):
    boxes = to_pixels(np.asarray(shares, np.float32), width, height)
    assert (boxes >= 0).all()
    assert (boxes <= [width, height, width, height]).all()
    assert (boxes * 8 == np.round(boxes * 8)).all()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 1, 1), False),
        ((0, 0, 0.875, 5), True),
        ((5, 5, 5, 9), True),
        ((9, 5, 5, 9), True),
        ((0, 0, 2, 2), False),
    ],
)
def test_boxes_thinner_than_a_pixel_are_degenerate(box: tuple[float, ...], expected: bool):
    assert is_degenerate(np.asarray([box], np.float64)).tolist() == [expected]


def test_iou_of_known_boxes():
    box = np.asarray([0, 0, 10, 10], np.float64)
    others = np.asarray([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20]], np.float64)
    assert iou(box, others) == pytest.approx([1, 1 / 3, 0])


BOXES = np.asarray([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10]], np.float64)


def test_of_overlapping_boxes_the_best_stays_and_order_is_by_score():
    assert suppress(BOXES, [0.5, 0.9, 0.7, 0.4], ["a"] * 4, 0.5, class_agnostic=True) == [1, 2]


def test_boxes_of_other_labels_stay_when_suppression_is_per_label():
    labels = ["a", "a", "a", "b"]
    assert suppress(BOXES, [0.5, 0.9, 0.7, 0.4], labels, 0.5, class_agnostic=False) == [1, 2, 3]


def test_of_equal_scores_the_earlier_box_stays():
    assert suppress(BOXES, [0.5] * 4, ["a"] * 4, 0.5, class_agnostic=True) == [0, 2]


def test_an_overlap_of_just_the_limit_is_allowed():
    boxes = np.asarray([[0, 0, 10, 10], [0, 0, 10, 5]], np.float64)
    assert suppress(boxes, [0.9, 0.8], ["a", "a"], 0.5, class_agnostic=True) == [0, 1]


SIDES = st.tuples(*[st.integers(0, 60)] * 4).map(lambda b: (min(b[0], b[2]), min(b[1], b[3]), *map(max, b[:2], b[2:])))
FOUND = st.lists(st.tuples(SIDES, st.sampled_from([0.25, 0.5, 0.75, 0.9]), st.sampled_from("ab")), max_size=12)


@settings(deadline=None, derandomize=True)
@given(found=FOUND, limit=st.floats(0, 1), agnostic=st.booleans())
def test_what_stays_overlaps_no_more_than_allowed_and_what_goes_does_so_with_a_better_one(
    found: list[tuple[tuple[int, ...], float, str]], limit: float, agnostic: bool
):
    boxes = np.asarray([box for box, _, _ in found], np.float64).reshape(-1, 4)
    scores, labels = [score for _, score, _ in found], [label for _, _, label in found]
    kept = suppress(boxes, scores, labels, limit, agnostic)
    assert [scores[index] for index in kept] == sorted((scores[index] for index in kept), reverse=True)

    def rivals(one: int, other: int) -> bool:
        return (agnostic or labels[one] == labels[other]) and iou(boxes[one], boxes[[other]])[0] > limit

    assert not any(rivals(one, other) for place, one in enumerate(kept) for other in kept[:place])
    for gone in set(range(len(found))) - set(kept):
        better = [index for index in kept if (-scores[index], index) < (-scores[gone], gone)]
        assert any(rivals(gone, other) for other in better)
    assert suppress(boxes[kept], [scores[k] for k in kept], [labels[k] for k in kept], limit, agnostic) == list(
        range(len(kept))
    )


def test_no_boxes_give_none():
    assert suppress(np.empty((0, 4)), [], [], 0.5, class_agnostic=True) == []
