"""Pictures that go wrong easily: nothing in them, one giant shape, tiny shapes, one row of pixels, broken files."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Sequence
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
    """A whole picture by its file name, which is unique among all, and what it shows."""

    name: str
    data: bytes
    scene: Scene


@dataclass(frozen=True)
class Broken:
    """A file that is no whole picture; ``fails`` is the class of failure that ingest gives it."""

    name: str
    data: bytes
    fails: str


def awkward_pictures(split: Split = "test") -> list[Awkward]:
    """Whole pictures that enter the lake: the same ones every time."""
    made = []
    for kind, (name, make) in enumerate({"empty": _empty, "giant": _giant, "tiny": _tiny}.items()):
        for number in range(EACH):
            scene = make(split, FIRST + 10_000 * kind + 100 * number)
            file = encode(scene, number)
            made.append(Awkward(f"{name}-{number}.{file.suffix}", file.data, scene))
    return made


def strips(split: Split = "test") -> list[Awkward]:
    """Pictures one pixel high, and one pixel wide, without a shape: too small, unless a source's ``min_side`` is 1."""
    made = []
    for name, (width, height) in {"row": (160, 1), "column": (1, 160)}.items():
        random = scene_random(split, FIRST + 90_000 + height)
        scene = Scene(background(random, width, height, gray=False).astype(np.uint8), ())
        made.append(Awkward(f"{name}.png", _png(scene.pixels), scene))
    return made


def broken_files(whole: Sequence[bytes]) -> list[Broken]:
    """Files that are no whole picture: each of ``whole`` cut in half, pages instead of pictures, empty ones, a bomb."""
    pages = [f"<html><body>{number}: log in first</body></html>".encode() for number in range(3)]
    return [
        *(Broken(f"cut-{number}.jpg", data[: len(data) // 2], "decode") for number, data in enumerate(whole)),
        *(Broken(f"page-{number}.jpg", page, "decode") for number, page in enumerate(pages)),
        *(Broken(f"empty-{number}.jpg", b"", "empty") for number in range(2)),
        Broken("bomb.png", bomb(), "too_large"),
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
