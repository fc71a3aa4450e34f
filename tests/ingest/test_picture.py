"""What counts as a picture, and what the lake says of one."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from etl.ingest.picture import Picture, Rejected, inspect
from etl.settings.catalog import Download
from etl.shapes.files.awkward import bomb
from etl.shapes.world.splits import numbered_scene

LIMITS = Download(min_side=16, max_pixels=200_000)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(number: int) -> Image.Image:
    return Image.fromarray(numbered_scene("test", number, size=(400, 300)).pixels)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return picture(0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats_of_the_web_are_pictures(image: Image.Image, kind: str) -> None:
    found = inspect(encode(image, kind), LIMITS)
    assert isinstance(found, Picture)
    assert (found.width, found.height, found.format, found.orientation) == (400, 300, kind.lower(), 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "I;16"])
def test_every_pixel_mode_is_a_picture(image: Image.Image, mode: str) -> None:
    converted = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    assert isinstance(inspect(encode(converted, "TIFF"), LIMITS), Picture)


@pytest.mark.parametrize("flag", range(1, 9))
def test_width_and_height_are_those_after_orientation(image: Image.Image, flag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = flag
    found = inspect(encode(image, "JPEG", exif=exif), LIMITS)
    assert isinstance(found, Picture)
    assert (found.orientation, found.width, found.height) == (flag, *((300, 400) if flag >= 5 else (400, 300)))


def test_an_orientation_out_of_range_is_none(image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    found = inspect(encode(image, "JPEG", exif=exif), LIMITS)
    assert isinstance(found, Picture)
    assert found.orientation == 1


def test_the_perceptual_hash_survives_another_encoding_and_not_another_picture(image: Image.Image) -> None:
    def bits(one: Image.Image, kind: str) -> int:
        found = inspect(encode(one, kind), LIMITS)
        assert isinstance(found, Picture)
        assert len(found.phash) == 16
        return int(found.phash, 16)

    png = bits(image, "PNG")
    assert (png ^ bits(image, "JPEG")).bit_count() <= 4
    assert (png ^ bits(picture(1), "PNG")).bit_count() > 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_picture_is_rejected(image: Image.Image, kind: str, share: float) -> None:
    data = encode(image, kind)
    assert rejected(data[: int(len(data) * share)]) == "decode"


@pytest.mark.parametrize(
    "data", [b"<html>log in</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", b"\0" * 99]
)
def test_what_is_no_picture_is_rejected(data: bytes) -> None:
    assert rejected(data) == "decode"


def test_an_empty_answer_is_empty() -> None:
    assert rejected(b"") == "empty"


def test_a_side_below_the_limit_is_too_small(image: Image.Image) -> None:
    assert rejected(encode(image.resize((400, 15)), "PNG")) == "too_small"
    assert isinstance(inspect(encode(image.resize((400, 16)), "PNG"), LIMITS), Picture)


def test_more_pixels_than_the_limit_are_too_large(image: Image.Image) -> None:
    assert rejected(encode(image.resize((500, 401)), "PNG")) == "too_large"
    assert isinstance(inspect(encode(image.resize((500, 400)), "PNG"), LIMITS), Picture)


@pytest.mark.parametrize("side", [600, 12_000, 30_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    assert rejected(bomb(side)) == "too_large"


def rejected(data: bytes) -> str:
    found = inspect(data, LIMITS)
    assert isinstance(found, Rejected)
    assert found.error
    return found.error_class
