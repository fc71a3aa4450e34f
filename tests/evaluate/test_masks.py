"""How well masks fit, by hand."""

from __future__ import annotations

import pytest
from said import pair
from scored_lake import NO_MASK, Object

from etl.evaluate.masks import MaskCounter, MaskScores
from etl.evaluate.matching import match

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30)


def scores(*images: tuple[list[Object], list[Object]]) -> MaskScores:
    counter = MaskCounter()
    pairs = [pair(truth, predicted, name=str(number)) for number, (truth, predicted) in enumerate(images)]
    counter.add(pairs, [match(one.truth.instances, one.predicted.instances) for one in pairs])
    return counter.scores()


def test_every_match_counts_the_same_whatever_its_image() -> None:
    # Two matches in one image, a whole mask and half of one, and in another image a quarter: (1 + .5 + .25) / 3.
    one = [Object("dog", LEFT), Object("dog", RIGHT)], [Object("dog", LEFT), Object("cat", RIGHT, (20, 0, 25, 10))]
    other = [Object("dog", LEFT)], [Object("dog", LEFT, (0, 0, 5, 5))]
    found = scores(one, other)
    assert (found.mean_iou, found.matched) == (1.75 / 3, 3)


def test_objects_that_were_not_found_do_not_count() -> None:
    found = scores(([Object("dog", LEFT), Object("dog", RIGHT)], [Object("dog", LEFT), Object("dog", FAR)]))
    assert (found.mean_iou, found.matched) == (1.0, 1)


def test_masks_that_do_not_touch_overlap_by_nothing() -> None:
    assert scores(([Object("dog", LEFT)], [Object("dog", LEFT, FAR)])).mean_iou == 0.0


def test_without_a_match_there_is_no_mean() -> None:
    found = scores(([Object("dog", LEFT)], []))
    assert (found.mean_iou, found.matched, found.truth, found.precision.ap) == (None, 0, 1, 0.0)


def test_average_precision_is_that_of_masks() -> None:
    found = scores(([Object("dog", LEFT)], [Object("dog", LEFT, (0, 0, 5, 10))]))
    assert found.precision.ap == pytest.approx(0.1)  # half a mask: right at the lowest of ten thresholds


def test_a_truth_of_boxes_alone_is_left_out() -> None:
    # In the first image one object of two has no mask: the other's still counts as a match, but COCO's precision, which
    # would call the prediction for it wrong, is that of the second image.
    boxes = [Object("dog", LEFT, NO_MASK), Object("dog", RIGHT)]
    found = scores((boxes, [Object("dog", LEFT), Object("dog", RIGHT)]), ([Object("dog", LEFT)], [Object("dog", LEFT)]))
    assert (found.mean_iou, found.matched, found.precision.ap) == (1.0, 2, 1.0)
    assert (found.without_mask, found.truth, found.predicted) == (1, 1, 1)
