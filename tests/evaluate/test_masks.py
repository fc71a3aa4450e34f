"""How well masks fit, by hand."""

from __future__ import annotations

from said import instances
from scored_lake import Object

from etl.evaluate.boxes import Precision
from etl.evaluate.masks import MaskCounter, MaskScores
from etl.evaluate.matching import match

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30)


def scores(*images: tuple[list[Object], list[Object]]) -> MaskScores:
    counter = MaskCounter()
    for truth, predicted in images:
        counter.add(match(instances(truth), instances(predicted)))
    return counter.scores(Precision())


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
    assert scores(([Object("dog", LEFT)], [])) == MaskScores()
