"""Pictures that go wrong easily: nothing in them, one giant shape, tiny shapes, one row of pixels, broken files."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from etl.shapes.files.encode import encode
from etl.shapes.world.backgrounds import background
from etl.shapes.world.scene import Pixels, Scene
from etl.shapes.world.splits import Split, numbered_scene, scene_random
from etl.shapes.world.words import PLAIN

FIRST = 1_000_000  # numbers of these scenes begin here: nobody asks for so many others
EACH = 4
TINY = (6.0, 14.0)  # pixels
GIANT = (152.0, 164.0)


@dataclass(frozen=True)
class Awkward:
    """One file.

    Attributes:
        name: File name, unique among all.
        data: Its bytes.
        scene: What it shows; None where it is no picture.
        fails: The class of failure that ingest's default limits give it; None when it enters the lake.
    """

    name: str
    data: bytes
    scene: Scene | None = None
    fails: str | None = None


def awkward_pictures(split: Split = "test") -> list[Awkward]:
    """Whole pictures, each with its scene: the same ones every time."""
    made = []
    for kind, (name, make) in enumerate({"empty": _empty, "giant": _giant, "tiny": _tiny}.items()):
        for number in range(EACH):
            scene = make(split, FIRST + 10_000 * kind + 100 * number)
            file = encode(scene, number)
            made.append(Awkward(f"{name}-{number}.{file.suffix}", file.data, scene))
    return made


def strips(split: Split = "test") -> list[Awkward]:
    """Pictures one pixel high, and one pixel wide, without a shape; a source whose ``min_side`` is 1 takes them."""
    made = []
    for name, (width, height) in {"row": (160, 1), "column": (1, 160)}.items():
        random = scene_random(split, FIRST + 90_000 + height)
        scene = Scene(background(random, width, height, gray=False).astype(np.uint8), ())
        made.append(Awkward(f"{name}.png", _png(scene.pixels), scene, "too_small"))
    return made


def broken_files(whole: bytes, suffix: str) -> list[Awkward]:
    """Files that are no whole picture: cut, a page instead of a picture, empty, and a bomb.

    Args:
        whole: An encoded picture, which is cut.
        suffix: That of its format.
    """
    page = b"<html><body>log in first</body></html>"
    return [
        Awkward(f"cut.{suffix}", whole[: len(whole) // 2], fails="decode"),
        Awkward("page.jpg", page, fails="decode"),
        Awkward("empty.jpg", b"", fails="empty"),
        Awkward("bomb.png", bomb(), fails="too_large"),
    ]


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few bytes whose header claims ``side`` x ``side`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3 * 1024))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _empty(split: Split, number: int) -> Scene:
    return numbered_scene(split, number, count=0)


def _giant(split: Split, number: int) -> Scene:
    """One shape, about as large as the picture is high."""
    return numbered_scene(split, number, size=(176, 160), count=1, extent=GIANT)


def _tiny(split: Split, number: int) -> Scene:
    """Plain ones only: stripes and dots are wider than these shapes, and truth is about what can be seen."""
    scenes = (numbered_scene(split, n, count=2, extent=TINY) for n in itertools.count(number))
    return next(s for s in scenes if [one.texture for one in s.instances] == [PLAIN, PLAIN])


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
