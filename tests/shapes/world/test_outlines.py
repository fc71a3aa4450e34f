"""Shapes and colours stay distinct, whatever a pipeline does to a picture."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from etl.shapes.world import scene as world
from etl.shapes.world.outlines import OUTLINES, distance
from etl.shapes.world.words import COLOURS, GRAY, SHAPES

SIDE, NORMAL = 96, 32  # pixels of a drawing, and of the square that its box is stretched to
TURNS = np.deg2rad(np.arange(0, 360, 15))
STRETCHES = np.exp([-0.2, 0.0, 0.2])


def drawn(shape: str, turn: float = 0.0, stretch: float = 1.0) -> npt.NDArray[np.float32]:
    """Distances in pixels to a shape of radius 30 in the middle of a square."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2).astype(np.float32) / 30
    x = (columns * np.cos(turn) + rows * np.sin(turn)) / np.sqrt(stretch)
    y = (rows * np.cos(turn) - columns * np.sin(turn)) * np.sqrt(stretch)
    return distance(shape, x, y)


def stretched(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """What of a mask is left when its box is made a square: position, size and aspect ratio are gone."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(Image.fromarray(box).resize((NORMAL, NORMAL)), np.float32).ravel()


def test_every_shape_has_an_outline():
    assert tuple(sorted(OUTLINES)) == SHAPES


def test_no_shape_turned_mirrored_or_stretched_is_another_one():
    ways = {
        shape: np.stack(
            [
                stretched(drawn(shape, turn, stretch)[:, ::mirror] < 0)
                for turn, stretch, mirror in itertools.product(TURNS, STRETCHES, (1, -1))
            ]
        )
        for shape in SHAPES
    }
    for one, other in itertools.combinations(SHAPES, 2):
        both = ways[one] @ ways[other].T
        either = ways[one].sum(axis=1)[:, None] + ways[other].sum(axis=1) - both
        assert (both / either).max() < 0.88, (one, other)


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_near_an_outline_are_in_pixels(shape: str):
    away = drawn(shape, 0.3)
    inside = away < 0
    edge = inside & ~(np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1))
    assert inside.any()
    assert not inside[0].any()
    # Of the pixels on the edge hardly one lies more than the diagonal of a pixel inside.
    assert np.mean(away[edge] > -1.5) > 0.9


def test_every_colour_as_it_is_drawn_is_nearest_to_its_own_name():
    random = np.random.default_rng(0)
    for _ in range(2000):
        name, rgb = world._colour(random, gray=False)
        away = {other: np.linalg.norm(rgb - middle) for other, middle in COLOURS.items()}
        assert min(away, key=away.__getitem__) == name


def test_colours_are_far_apart():
    middles = np.asarray(list(COLOURS.values()), float)
    apart = np.linalg.norm(middles[:, None] - middles, axis=-1)[~np.eye(len(middles), dtype=bool)]
    assert apart.min() > 80


def test_gray_is_dark_or_light_but_never_like_the_background():
    random = np.random.default_rng(0)
    for _ in range(200):
        name, rgb = world._colour(random, gray=True)
        assert name == GRAY
        assert len(set(rgb.tolist())) == 1
        assert rgb[0] <= 70 or rgb[0] >= 185
