"""Training never sees what is measured."""

import itertools
from typing import get_args

import numpy as np

from etl.shapes.world.splits import Split, numbered_scene, scene_random

SPLITS = get_args(Split)


def test_one_number_is_one_scene():
    first, second = (numbered_scene("test", 7, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_splits_seeds_and_numbers_share_no_generator():
    keys = list(itertools.product(SPLITS, range(400), range(3)))
    starts = {scene_random(*key).integers(2**63) for key in keys}
    assert len(starts) == len(keys) == 3 * 400 * 3


def test_splits_share_no_scene():
    scenes = [numbered_scene(split, number, size=(128, 128)) for split in SPLITS for number in range(4)]
    assert len({scene.pixels.tobytes() for scene in scenes}) == len(scenes)


def test_choices_are_those_of_a_scene():
    scene = numbered_scene("validation", 0, size=(300, 40), count=1, extent=(30, 31))
    assert scene.pixels.shape == (40, 300, 3)
    assert len(scene.instances) == 1
