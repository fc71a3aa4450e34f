"""From an item of an order to upright RGB pixels, or to the reason why there are none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from etl.lake.ids import digest_bytes
from etl.stages import pictures as module
from etl.stages.pictures import Broken, TarReader, decode
from etl.storage import LocalStore, NotFoundError


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes, width: int = 4, height: int = 3) -> Image.Image:
    picture = decode(data, width, height)
    assert isinstance(picture, Image.Image), picture
    return picture


class TestDecode:
    def test_pixels_are_rgb(self):
        picture = decoded(encoded(Image.new("RGB", (4, 3), (10, 20, 30))))

        assert (picture.mode, picture.size, picture.getpixel((0, 0))) == ("RGB", (4, 3), (10, 20, 30))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation_flag_is_applied(self, orientation):
        upright = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7)
        stored = {
            1: None,
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation

        picture = decoded(encoded(upright.transpose(stored) if stored is not None else upright, exif=exif))

        assert np.array_equal(np.asarray(picture), np.asarray(upright))

    def test_transparent_pixels_are_white(self):
        assert decoded(encoded(Image.new("RGBA", (4, 3), (200, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
        assert decoded(encoded(Image.new("LA", (4, 3), (0, 0)))).getpixel((0, 0)) == (255, 255, 255)

    def test_a_half_transparent_pixel_is_blended(self):
        assert decoded(encoded(Image.new("RGBA", (4, 3), (0, 0, 0, 128)))).getpixel((0, 0)) == (127, 127, 127)

    def test_a_transparent_palette_colour_is_white(self):
        palette = Image.new("P", (4, 3), 0)
        palette.putpalette([9, 9, 9, 200, 0, 0])

        assert decoded(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
        assert decoded(encoded(palette)).getpixel((0, 0)) == (9, 9, 9)

    def test_sixteen_bit_grey_is_scaled_not_clipped(self):
        grey = Image.fromarray(np.full((3, 4), 0x8000, dtype=np.uint16))

        assert decoded(encoded(grey)).getpixel((0, 0)) == (128, 128, 128)

    def test_cmyk_becomes_rgb(self):
        assert decoded(encoded(Image.new("CMYK", (4, 3)), "JPEG")).mode == "RGB"

    def test_an_animation_gives_its_first_frame(self):
        frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]

        picture = decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))

        assert picture.getpixel((0, 0)) == (255, 0, 0)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"no picture",
            encoded(Image.effect_noise((40, 30), 50), "JPEG")[:-300],
            encoded(Image.new("L", (9, 9)))[:-20],
        ],
        ids=["nothing", "text", "jpeg cut short", "png cut short"],
    )
    def test_bytes_that_do_not_decode_have_a_reason(self, data):
        broken = decode(data, 40, 30)

        assert isinstance(broken, Broken)
        assert (broken.reason, broken.retryable) == ("decode", False)
        assert broken.error

    def test_a_decompression_bomb_is_refused_by_its_header(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)

        broken = decode(encoded(Image.new("L", (4, 3))), 4, 3)

        assert isinstance(broken, Broken)
        assert "DecompressionBombError" in broken.error

    def test_another_size_than_the_lake_knows_is_refused(self):
        broken = decode(encoded(Image.new("L", (4, 3))), 3, 4)

        assert isinstance(broken, Broken)
        assert broken.error == "4x3 pixels, the lake says 3x4"


@pytest.mark.parametrize("copy", [True, False, None])
class TestTarReader:
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        store = LocalStore(tmp_path / "store")
        store.put("raw/a.tar", b"headpicturetail")
        return store

    @staticmethod
    def item(offset: int = 4, length: int = 7, data: bytes = b"picture") -> dict[str, Any]:
        return {"image_id": digest_bytes(data), "tar": "raw/a.tar", "offset": offset, "length": length}

    def reader(self, store: LocalStore, tmp_path: Path, copy: bool | None, *items: dict[str, Any]) -> TarReader:
        reader = TarReader(store, items, tmp_path, copy=copy)
        reader.prepare()
        return reader

    def test_bytes_are_read_by_offset(self, store, tmp_path, copy):
        assert self.reader(store, tmp_path, copy, self.item()).read(self.item()) == b"picture"
        assert (tmp_path / "0.tar").exists() == (copy is True)

    def test_bytes_of_another_digest_are_refused(self, store, tmp_path, copy):
        broken = self.reader(store, tmp_path, copy, self.item(offset=3)).read(self.item(offset=3))

        assert isinstance(broken, Broken)
        assert (broken.reason, broken.retryable) == ("bytes_changed", True)

    def test_bytes_behind_the_end_are_refused(self, store, tmp_path, copy):
        broken = self.reader(store, tmp_path, copy, self.item(offset=14)).read(self.item(offset=14))

        assert isinstance(broken, Broken)
        assert broken.error == "raw/a.tar at 14+7: the tar has 15 bytes only"

    def test_a_tar_that_is_gone_is_an_error_of_the_order(self, store, tmp_path, copy):
        store.delete("raw/a.tar")

        with pytest.raises(NotFoundError):
            self.reader(store, tmp_path, copy, self.item())


def test_a_copy_pays_only_when_much_of_the_tar_is_wanted(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    store.put("t.tar", bytes(1000))
    monkeypatch.setattr(module, "LocalStore", type("Other", (), {}))
    item = {"image_id": "x", "tar": "t.tar", "offset": 0}
    for length, copied in ((249, False), (250, True)):
        TarReader(store, [item | {"length": length}], tmp_path).prepare()
        assert (tmp_path / "0.tar").exists() == copied


def test_a_full_scratch_disk_means_ranges_instead_of_a_copy(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    store.put("t.tar", bytes(1000))
    monkeypatch.setattr(module, "LocalStore", type("Other", (), {}))
    monkeypatch.setattr(module, "_FREE_BYTES", 1 << 60)
    TarReader(store, [{"tar": "t.tar", "offset": 0, "length": 1000}], tmp_path).prepare()

    assert not (tmp_path / "0.tar").exists()
