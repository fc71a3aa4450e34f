"""Which object is which: one to one, by boxes, with the best total."""

from __future__ import annotations

import pytest
from said import instances
from scored_lake import Object

from etl.evaluate.matching import Match, match

LEFT, RIGHT = Object("dog", (0, 0, 10, 10)), Object("cat", (20, 0, 30, 10))


def pairs(found: list[Match]) -> list[tuple[str, str]]:
    return [(one.truth.instance_id, one.predicted.instance_id) for one in found]


def matched(truth: list[Object], predicted: list[Object]) -> list[Match]:
    return match(instances(truth), instances(predicted))


def test_objects_are_matched_by_place_whatever_their_order_score_and_label() -> None:
    found = matched([LEFT, RIGHT], [Object("car", RIGHT.box, score=0.1), Object("cat", LEFT.box, score=0.9)])
    assert pairs(found) == [("000", "001"), ("001", "000")]
    assert [one.box_iou for one in found] == [1.0, 1.0]


def test_each_object_is_matched_once() -> None:
    assert pairs(matched([LEFT], [LEFT, LEFT])) == [("000", "000")]
    assert pairs(matched([LEFT, LEFT], [LEFT])) == [("000", "000")]


def test_an_overlap_of_one_half_is_enough_and_less_is_not() -> None:
    # 10 x 10 against its upper half: 50 / 100. Against 4 rows of it: 40 / 100.
    (half,) = matched([LEFT], [Object("dog", (0, 0, 10, 5))])
    assert half.box_iou == 0.5
    assert matched([LEFT], [Object("dog", (0, 0, 10, 4))]) == []


def test_the_best_total_wins_over_the_best_single_overlap() -> None:
    # Boxes of 10 x 10, shifted down: the truth's lie at 0 and 3, the prediction's at 2 and 6. A shift of s leaves an
    # IoU of (10 - s) / (10 + s): 3-2 is 9/11 and leaves 0-6, which is under .5. 0-2 and 3-6 are 8/12 + 7/13.
    truth = [Object("dog", (0, top, 10, top + 10)) for top in (0, 3)]
    predicted = [Object("dog", (0, top, 10, top + 10)) for top in (2, 6)]
    found = matched(truth, predicted)
    assert pairs(found) == [("000", "000"), ("001", "001")]
    assert sum(one.box_iou for one in found) == pytest.approx(8 / 12 + 7 / 13)


def test_a_match_that_would_be_too_far_apart_is_none_even_if_nothing_else_is_left() -> None:
    assert pairs(matched([LEFT, RIGHT], [RIGHT, Object("dog", (0, 20, 10, 30))])) == [("001", "000")]


def test_nothing_matches_nothing() -> None:
    assert matched([], []) == matched([LEFT], []) == matched([], [LEFT]) == []


def test_the_overlap_of_masks_is_measured_for_each_match() -> None:
    (found,) = matched([LEFT], [Object("dog", LEFT.box, mask=(0, 0, 5, 10))])  # half of the pixels: 50 / 100
    assert (found.box_iou, found.mask_iou) == (1.0, 0.5)
