"""Masks of a file: known pixels come out, and nothing in a file can harm whoever decodes it."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from truth_files import compressed, plain, rectangle

from etl.stages.masks import decode
from etl.truth.masks import check_mask, mask_of
from etl.truth.model import Polygons, Runs
from etl.truth.values import ValueProblem

SIZE = WIDTH, HEIGHT = 12, 10
MASK = rectangle(SIZE, 2, 3, 5, 4)
RING = (2, 3, 7, 3, 7, 7, 2, 7)


def runs(content) -> Runs:
    counts = content["counts"]
    return Runs(*content["size"], counts if isinstance(counts, str) else tuple(counts))


def polygon(*rings) -> Polygons:
    return Polygons(tuple(array("d", ring) for ring in rings))


@pytest.mark.parametrize(
    "mask",
    [
        runs(compressed(MASK)),
        runs(plain(MASK)),
        Runs(10, 12, (0, 0, *plain(MASK)["counts"][:1], 2, 0, 2, *plain(MASK)["counts"][2:])),
        polygon(RING),
        polygon((2, 3, 4, 3, 4, 7, 2, 7), (4, 3, 7, 3, 7, 7, 4, 7)),
    ],
    ids=["compressed", "uncompressed", "with runs of no pixel", "polygon", "two polygons"],
)
def test_equal_masks_have_the_very_same_form_however_they_were_written(mask):
    check_mask(mask, WIDTH, HEIGHT)
    found = mask_of(mask, WIDTH, HEIGHT)

    assert np.array_equal(decode(found), MASK)
    assert (found.counts, found.area) == (compressed(MASK)["counts"], 20)


@pytest.mark.parametrize("mask", [np.zeros((10, 12), bool), np.ones((10, 12), bool)], ids=["no pixel", "every pixel"])
@pytest.mark.parametrize("form", [compressed, plain])
def test_masks_of_no_and_of_every_pixel_are_masks(mask, form):
    assert np.array_equal(decode(mask_of(runs(form(mask)), WIDTH, HEIGHT)), mask)


def test_a_mask_that_the_file_does_not_give_has_no_pixel():
    found = mask_of(None, WIDTH, HEIGHT)

    assert (found.width, found.height, found.area) == (WIDTH, HEIGHT, 0)
    assert not decode(found).any()


def test_an_outline_that_touches_the_border_by_rounding_is_clipped():
    found = mask_of(polygon((-0.4, 0, 12.4, 0, 12.4, 10.4, -0.4, 10.4)), WIDTH, HEIGHT)

    assert found.area == WIDTH * HEIGHT


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (runs(compressed(MASK.T)), "a mask of 10x12 pixels, of an image of 12x10"),
        (Runs(10, 12, compressed(MASK)["counts"][:-1]), "no compressed run lengths|runs give"),
        (Runs(10, 12, compressed(np.ones((10, 13), bool))["counts"]), "runs give 130 pixels"),
        (Runs(10, 12, ""), "runs give 0 pixels"),
        (Runs(10, 12, "o" * 30), "no compressed run lengths"),
        (Runs(10, 12, "P" * 5), "no compressed run lengths"),
        (Runs(10, 12, "héé"), "no compressed run lengths"),
        (Runs(10, 12, "\x00" * 9), "no compressed run lengths"),
        (Runs(10, 12, "0" * 5000), "no compressed run lengths"),
        (Runs(10, 12, (120, 1)), "runs give 121 pixels"),
        (Runs(10, 12, (130, -10)), "negative run"),
        (Runs(10, 12, (10**30,)), "runs give 1000000000000000000000000000000 pixels"),
        (Runs(10, 12, ()), "runs give 0 pixels"),
        (polygon((1, 2, 3, 4)), "an outline of 4 numbers"),
        (polygon((1, 2, 3, 4, 5)), "an outline of 5 numbers"),
        (polygon(RING, ()), "an outline of 0 numbers"),
        (polygon((1, 2, 3, float("nan"), 5, 6)), "leaves its image"),
        (polygon((1, 2, 3, 1e300, 5, 6)), "leaves its image"),
        (polygon((1, 2, 13, 4, 5, 6)), "leaves its image of 12x10 pixels"),
        (polygon((0, 0, 12, 10) * 50_000), "an outline of 1"),
    ],
)
def test_a_mask_that_is_wrong_is_refused_before_anything_decodes_it(mask, words):
    for look in (check_mask, mask_of):
        with pytest.raises(ValueProblem, match=words) as caught:
            look(mask, WIDTH, HEIGHT)
        assert caught.value.reason == "bad_mask"
