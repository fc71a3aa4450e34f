"""Preprocessing: sizes and orientation as the networks were trained with."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from etl.models.pixels import Preprocessor, longest_edge_shape, shortest_edge_shape


@pytest.fixture
def preprocessor(tmp_path: Path) -> Preprocessor:
    content = {
        "size": {"height": 4, "width": 8},
        "image_mean": [0.5, 0.0, 0.0],
        "image_std": [0.5, 1.0, 1.0],
        "resample": 2,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    return Preprocessor.read(tmp_path, "height", "width")


def test_a_tensor_is_channels_rows_columns(preprocessor: Preprocessor):
    picture = Image.new("RGB", (8, 4))
    picture.putpixel((6, 1), (255, 0, 255))
    values = preprocessor.tensor(picture, 8, 4)
    assert values.shape == (3, 4, 8)
    assert values[:, 1, 6].tolist() == [1.0, 0.0, 1.0]
    assert values[:, 1, 5].tolist() == [-1.0, 0.0, 0.0]


def test_pictures_of_any_size_are_stretched_to_the_size(preprocessor: Preprocessor):
    assert preprocessor.square([Image.new("RGB", size) for size in ((3, 50), (500, 9))]).shape == (2, 3, 4, 8)


PICTURES = [Image.effect_noise(size, 90).convert("RGB") for size in ((9, 5), (4, 11), (30, 7), (8, 4))]


def test_many_pictures_at_once_give_to_the_last_bit_what_each_gives_alone(preprocessor: Preprocessor):
    alone = [preprocessor.tensor(picture, 8, 4) for picture in PICTURES]
    assert torch.equal(preprocessor.square(PICTURES * 5), torch.stack(alone * 5))


def test_pictures_of_several_shapes_lie_top_left_in_squares_that_are_zero_elsewhere(preprocessor: Preprocessor):
    sizes = [(8, 5), (3, 8), (8, 2), (8, 4)]
    squares = preprocessor.padded(PICTURES, sizes, 8)
    for square, picture, (width, height) in zip(squares, PICTURES, sizes, strict=True):
        assert torch.equal(square[:, :height, :width], preprocessor.tensor(picture, width, height))
        assert not square[:, height:].any()
        assert not square[:, :, width:].any()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (1066, 800)), ((480, 640), (800, 1066)), ((3000, 1000), (1332, 444)), ((800, 800), (800, 800))],
)
def test_the_shorter_edge_gives_way_when_the_longer_gets_too_long(size: tuple[int, int], expected: tuple[int, int]):
    assert shortest_edge_shape(*size, 800, 1333) == expected


def test_no_side_ever_vanishes():
    assert min(*shortest_edge_shape(1, 100_000, 160, 266), *longest_edge_shape(100_000, 1, 160)) == 1
