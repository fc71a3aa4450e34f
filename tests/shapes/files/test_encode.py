"""However a scene is stored, decoded as the stages decode it, it is the scene again."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from etl.lake.pixels import decode_upright
from etl.shapes.files.encode import Encoded, encode, is_gray, with_alpha
from etl.shapes.world.scene import Scene
from etl.shapes.world.splits import numbered_scene

NUMBERS = range(72)  # at which every orientation came up


@pytest.fixture(scope="module")
def encoded() -> list[tuple[Scene, Encoded]]:
    scenes = [numbered_scene("test", number, size=(96, 64), count=2) for number in NUMBERS]
    return [(scene, encode(scene, number)) for number, scene in zip(NUMBERS, scenes, strict=True)]


def opened(file: Encoded) -> Image.Image:
    return Image.open(io.BytesIO(file.data))


def orientation(file: Encoded) -> int:
    return int(opened(file).getexif().get(0x0112, 1))


def difference(scene: Scene, file: Encoded) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Levels, by pixel and channel, between the scene and what the stages see."""
    return np.abs(np.asarray(decode_upright(file.data)).astype(int) - scene.pixels)


def test_formats_come_in_turn_and_suffixes_are_theirs(encoded: list[tuple[Scene, Encoded]]) -> None:
    coloured = [(n, file) for n, (scene, file) in zip(NUMBERS, encoded, strict=True) if not is_gray(scene.pixels)]
    assert [opened(file).format for _, file in coloured] == [("JPEG", "PNG", "WEBP")[n % 3] for n, _ in coloured]
    assert {(opened(file).format, file.suffix) for _, file in encoded} == {
        ("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")
    }  # fmt: skip


def test_every_orientation_occurs_in_every_format(encoded: list[tuple[Scene, Encoded]]) -> None:
    assert {orientation(file) for _, file in encoded} == set(range(1, 9))
    assert {opened(file).format for _, file in encoded if orientation(file) != 1} == {"JPEG", "PNG", "WEBP"}


def test_every_picture_is_its_scene_when_decoded_upright(encoded: list[tuple[Scene, Encoded]]) -> None:
    for number, (scene, file) in zip(NUMBERS, encoded, strict=True):
        kind = opened(file).format
        assert difference(scene, file).mean() <= (0 if kind == "PNG" else 10), (number, kind, orientation(file))


@pytest.mark.parametrize("turned", range(2, 9))
def test_a_turned_picture_is_another_one_when_its_orientation_is_ignored(turned: int) -> None:
    scene, number = numbered_scene("test", 0, size=(160, 128)), 10 * (turned - 2)
    file = encode(scene, number)
    assert orientation(file) == turned
    assert difference(scene, file).mean() <= 10
    stored = np.asarray(opened(file).convert("RGB")).astype(int)
    assert stored.shape != scene.pixels.shape if turned >= 5 else np.abs(stored - scene.pixels).mean() > 10


def test_alpha_blends_to_the_scene_within_two_levels_and_is_needed_for_it(
    encoded: list[tuple[Scene, Encoded]],
) -> None:
    with_it = [(scene, file) for scene, file in encoded if opened(file).mode == "RGBA"]
    assert len(with_it) >= 8
    for scene, file in with_it:
        assert difference(scene, file).max() <= 2
        stored = np.asarray(opened(file)).astype(int)
        assert np.ptp(stored[..., 3]) > 50
        assert np.abs(stored[..., :3] - scene.pixels).mean() > 10


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_alpha_of_any_level_blends_back(level: int) -> None:
    pixels = np.full((64, 8, 3), level, np.uint8)
    buffer = io.BytesIO()
    with_alpha(pixels).save(buffer, "PNG")
    assert np.abs(np.asarray(decode_upright(buffer.getvalue())).astype(int) - level).max() <= 2


@pytest.mark.parametrize("number", range(3))
def test_one_channel_is_for_scenes_without_colours_only(number: int) -> None:
    gray, coloured = (numbered_scene("test", 5, count=3, gray=gray) for gray in (True, False))
    assert {one.colour for one in gray.instances} == {"gray"}
    assert "gray" not in {one.colour for one in coloured.instances}
    assert opened(encode(gray, number)).mode == "L"
    assert difference(gray, encode(gray, number)).mean() <= 10
    assert opened(encode(coloured, number)).mode in ("RGB", "RGBA")


def test_the_same_scene_and_number_give_the_same_bytes() -> None:
    again = [encode(numbered_scene("test", 7), 7) for _ in range(2)]
    assert again[0] == again[1]


def test_asking_for_colours_as_they_are_drawn_changes_nothing() -> None:
    as_drawn = numbered_scene("test", 5)
    asked = numbered_scene("test", 5, gray=is_gray(as_drawn.pixels))
    assert np.array_equal(as_drawn.pixels, asked.pixels)
    assert as_drawn.tags == asked.tags
