"""Crops of instances."""

import pytest
from real_models import item

from etl.stages.contract import WorkItem
from etl.stages.crops import is_large_enough, pictures_of


@pytest.mark.parametrize(
    ("box", "expected"),
    [((0, 0, 32, 32), True), ((0, 0, 32, 31), False), ((5, 5, 1029, 6), True), ((5, 5, 5, 5000), False)],
)
def test_a_crop_is_large_enough_from_1024_pixels(box: tuple[int, int, int, int], expected: bool):
    assert is_large_enough(box) is expected


def test_an_item_without_its_picture_is_a_bug_that_is_told():
    with pytest.raises(ValueError, match="1 of 2 work items have no picture"):
        pictures_of([item(0), WorkItem("b", "s", 1, 1, None)])
