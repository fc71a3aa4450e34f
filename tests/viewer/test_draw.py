"""What is drawn lies where the object is, in a colour that belongs to its label."""

from __future__ import annotations

import numpy as np
from PIL import Image

from etl.viewer.draw import Drawn, colour_of, draw

GREY = Image.new("RGB", (400, 200), (128, 128, 128))


def half_mask() -> np.ndarray:
    mask = np.zeros((200, 400), dtype=bool)
    mask[100:, :] = True
    return mask


def test_a_label_has_one_colour_and_labels_differ() -> None:
    assert colour_of("dog") == colour_of("dog")
    assert len({colour_of(label) for label in ("dog", "cat", "box", "tree", "car")}) == 5


def test_the_result_has_the_width_asked_for_and_the_picture_stays_as_it_was() -> None:
    drawn = draw(GREY, [Drawn("dog", (0, 0, 100, 100))], width=100)
    assert drawn.size == (100, 50)
    assert np.asarray(GREY).std() == 0


def test_a_box_is_outlined_in_the_colour_of_its_label() -> None:
    pixels = np.asarray(draw(GREY, [Drawn("dog", (100, 100, 300, 180))], width=400))
    assert tuple(pixels[179, 200]) == colour_of("dog")
    assert tuple(pixels[140, 100]) == colour_of("dog")
    assert tuple(pixels[140, 200]) == (128, 128, 128)


def test_a_mask_tints_its_pixels_and_lets_the_picture_through() -> None:
    pixels = np.asarray(draw(GREY, [Drawn("dog", (390, 0, 399, 5), half_mask())], width=400)).astype(int)
    assert tuple(pixels[60, 50]) == (128, 128, 128)
    tinted, colour = pixels[150, 50], np.array(colour_of("dog"))
    assert np.abs(tinted - (0.55 * 128 + 0.45 * colour)).max() <= 1


def test_boxes_at_the_border_and_beyond_are_drawn_inside() -> None:
    assert draw(GREY, [Drawn("dog", (-5, -5, 500, 300)), Drawn("cat", (399, 199, 400, 200))], width=200).size == (
        200,
        100,
    )


def test_nothing_to_draw_leaves_the_picture() -> None:
    assert np.array_equal(np.asarray(draw(GREY, [], width=400)), np.asarray(GREY))
