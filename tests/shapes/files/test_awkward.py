"""The pictures that go wrong easily are what they claim to be, and ingest says of each what its maker does."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from etl.ingest.picture import Picture, Rejected, inspect
from etl.lake.pixels import decode_upright
from etl.settings.catalog import Download
from etl.shapes.files.awkward import EACH, Awkward, awkward_pictures, bomb, broken_files, strips


@pytest.fixture(scope="module")
def whole() -> list[Awkward]:
    return awkward_pictures()


def of(whole: list[Awkward], kind: str) -> list[Awkward]:
    return [one for one in whole if one.name.startswith(kind)]


def test_whole_pictures_show_their_scene_and_enter_the_lake(whole: list[Awkward]) -> None:
    assert len({one.name for one in whole}) == len(whole) == 3 * EACH
    for one in whole:
        assert np.abs(np.asarray(decode_upright(one.data)).astype(int) - one.scene.pixels).mean() <= 10
        assert isinstance(inspect(one.data, Download()), Picture)


def test_empty_pictures_have_no_instance_no_tag_and_a_sentence(whole: list[Awkward]) -> None:
    for one in of(whole, "empty"):
        assert (one.scene.instances, one.scene.tags, one.scene.sentence) == ((), [], "no shapes")


def test_a_giant_shape_takes_nearly_the_whole_picture(whole: list[Awkward]) -> None:
    for one in of(whole, "giant"):
        (instance,) = one.scene.instances
        x1, y1, x2, y2 = instance.box
        height, width = one.scene.pixels.shape[:2]
        assert (x2 - x1) * (y2 - y1) > 0.6 * width * height


def test_tiny_shapes_are_down_to_six_pixels_and_their_truth_can_be_seen(whole: list[Awkward]) -> None:
    instances = [instance for one in of(whole, "tiny") for instance in one.scene.instances]
    longer = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in (instance.box for instance in instances)]
    assert 5 <= min(longer) <= 7
    assert max(longer) <= 17
    assert {instance.texture for instance in instances} == {"plain"}  # no stripe is so narrow


def test_strips_are_one_pixel_high_or_wide_and_too_small_unless_the_source_says_otherwise() -> None:
    assert {Image.open(io.BytesIO(one.data)).size for one in strips()} == {(160, 1), (1, 160)}
    for one in strips():
        found = inspect(one.data, Download())
        assert isinstance(found, Rejected)
        assert found.error_class == "too_small"
        assert isinstance(inspect(one.data, Download(min_side=1)), Picture)


def test_broken_files_fail_as_they_say(whole: list[Awkward]) -> None:
    jpeg, png, webp = (one.data for one in whole[:3])
    broken = broken_files([jpeg, png, webp])
    assert {one.fails for one in broken} == {"decode", "empty", "too_large"}
    assert len({one.name for one in broken}) == len(broken)
    for one in broken:
        found = inspect(one.data, Download())
        assert isinstance(found, Rejected)
        assert found.error_class == one.fails


def test_the_bomb_is_small_and_claims_to_be_huge() -> None:
    data = bomb()
    assert len(data) < 1000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
