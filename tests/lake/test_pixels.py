"""What pixels boxes, masks and manifests refer to."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from etl.lake.pixels import decode_upright
from etl.stages.pictures import decode as decode_for_a_stage
from etl.viewer.pictures import decode as decode_for_a_manifest


def encoded(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def transparent() -> bytes:
    picture = Image.new("RGBA", (4, 2), (10, 20, 30, 0))
    picture.putpixel((0, 0), (10, 20, 30, 255))
    return encoded(picture)


def test_transparent_pixels_are_white_and_opaque_ones_keep_their_colour():
    picture = decode_upright(transparent())

    assert (picture.getpixel((0, 0)), picture.getpixel((3, 1))) == ((10, 20, 30), (255, 255, 255))


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = Image.fromarray(np.full((2, 2), 0x8000, np.uint16))

    assert decode_upright(encoded(grey)).getpixel((0, 0)) == (128, 128, 128)


def test_an_orientation_flag_is_applied():
    picture = Image.new("RGB", (4, 2), "red")
    exif = picture.getexif()
    exif[0x0112] = 6

    assert decode_upright(encoded(picture, exif=exif)).size == (2, 4)


def test_bytes_that_are_cut_are_no_picture():
    with pytest.raises(OSError, match=r"truncated|broken"):
        decode_upright(encoded(Image.effect_noise((64, 64), 50))[:-200])


def test_a_manifest_shows_the_very_pixels_a_stage_saw():
    seen = decode_for_a_stage(transparent(), 4, 2)

    assert isinstance(seen, Image.Image)
    assert seen.tobytes() == decode_for_a_manifest("id", transparent()).tobytes()
