"""Bytes are proven to be those of the id before anybody looks at them."""

from __future__ import annotations

from pathlib import Path

import pytest
from handmade import Handmade, Picture

from etl.lake import Lake
from etl.viewer.pictures import PictureError, decode, read_bytes


def test_pixels_are_those_after_orientation() -> None:
    picture = Picture(size=(30, 50), orientation=6)
    assert decode("id", picture.encoded()).size == (30, 50)


@pytest.mark.parametrize("data", [b"", b"not a picture", Picture().encoded()[:300]])
def test_bytes_that_do_not_decode_to_the_end_are_refused(data: bytes) -> None:
    with pytest.raises(PictureError) as caught:
        decode("id", data)
    assert caught.value.reason == "decode"


def test_bytes_of_another_picture_are_refused(lake: Lake) -> None:
    Handmade(lake).add(Picture())
    row = lake.table("images").to_pyarrow_table().to_pylist()[0]
    place = (row["image_id"], row["tar"], row["offset"], row["length"])
    assert read_bytes(lake, *place) == Picture().encoded()
    tar = Path(lake.uri) / row["tar"]
    tar.write_bytes(tar.read_bytes()[: row["offset"]] + b"x" * row["length"] + bytes(1024))
    with pytest.raises(PictureError) as caught:
        read_bytes(lake, *place)
    assert caught.value.reason == "bytes_differ"


def test_a_picture_that_was_taken_down_is_told_from_a_damaged_one(lake: Lake) -> None:
    Handmade(lake).add(Picture())
    row = lake.table("images").to_pyarrow_table().to_pylist()[0]
    lake.store.erase(row["tar"], [(row["offset"], row["length"])])
    with pytest.raises(PictureError, match="taken down") as caught:
        read_bytes(lake, row["image_id"], row["tar"], row["offset"], row["length"])
    assert caught.value.reason == "taken_down"
