"""Masks as COCO run lengths."""

import numpy as np
import pytest

from etl.stages.masks import decode, encode


def test_an_asymmetric_mask_of_a_wide_picture_comes_back():
    mask = np.zeros((3, 7), dtype=bool)
    mask[0, 1:4] = mask[2, 5] = True
    rle = encode(mask)
    assert (rle.height, rle.width, rle.area) == (3, 7, 4)
    np.testing.assert_array_equal(decode(rle), mask)


def test_runs_go_down_columns():
    # Column-major: 2 unset (first column), 1 set (top of the second), 3 unset.
    mask = np.asarray([[0, 1, 0], [0, 0, 0]], dtype=bool)
    assert encode(mask).counts == "213"


@pytest.mark.parametrize("value", [False, True])
def test_an_empty_and_a_full_mask_come_back(value: bool):
    mask = np.full((4, 5), value)
    rle = encode(mask)
    assert rle.area == 20 * value
    np.testing.assert_array_equal(decode(rle), mask)


def test_counts_are_ascii_text():
    mask = np.random.default_rng(0).random((64, 48)) > 0.5
    counts = encode(mask).counts
    assert isinstance(counts, str)
    assert counts.isascii()
    np.testing.assert_array_equal(decode(encode(mask)), mask)
