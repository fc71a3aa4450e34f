"""One number per image, by hand: for choosing what to look at."""

from __future__ import annotations

import pytest
from said import pair
from scored_lake import NO_MASK, Object

from etl.evaluate.matching import match
from etl.evaluate.rows import Pair
from etl.evaluate.worst import KEPT, ImageScore, image_score, worst

LEFT, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10)


def score(one: Pair, captions: list[float] | None = None) -> ImageScore:
    return image_score(one, match(one.truth.instances, one.predicted.instances), captions or [])


def test_an_image_scores_the_mean_of_what_it_counts_for() -> None:
    one = pair([Object("dog", LEFT)], [Object("dog", LEFT)], tags=(["dog"], ["dog", "cat"]))
    found = score(one, [0.5, 0.0])
    assert (found.tags, found.instances, found.captions) == (2 / 3, 1.0, 0.25)
    assert found.score == pytest.approx((2 / 3 + 1 + 0.25) / 3)


def test_missing_surplus_misnamed_and_badly_masked_objects_all_cost() -> None:
    # Sum of mask IoUs of right matches, over the mean of 2 and 2 objects: half a mask; a wrong label gives nothing.
    truth = [Object("dog", LEFT), Object("cat", RIGHT)]
    half = Object("dog", LEFT, mask=(0, 0, 5, 10))
    assert score(pair(truth, [half, Object("dog", RIGHT)])).instances == 0.5 / 2
    assert score(pair(truth, [half])).instances == 0.5 / 1.5


def test_where_the_truth_has_no_mask_its_box_counts() -> None:
    assert score(pair([Object("dog", LEFT, NO_MASK)], [Object("dog", (0, 0, 10, 5))])).instances == 0.5


def test_an_image_where_neither_side_says_anything_is_fine() -> None:
    assert score(pair()) == ImageScore("a", tags=1.0, instances=1.0, captions=None)
    assert score(pair(stages=["caption"])).score == 1.0


def test_the_worst_are_kept_lowest_first_and_equal_ones_by_id() -> None:
    scores = [ImageScore(f"{number:03d}", tags=number % 2) for number in range(3 * KEPT)]
    found = worst(reversed(scores))
    assert [one.image_id for one in found] == [f"{number:03d}" for number in range(0, 2 * KEPT, 2)]
