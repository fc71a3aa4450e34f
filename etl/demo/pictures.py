"""The sample source: generated pictures, the failures a crawl meets, the url list, and the truth about all of it."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from etl.demo.server import ANSWERS

VERSION = 1  # raised when the pictures or the list change
LIST, TRUTH = "urls.parquet", "truth.json"
_COLOURS = {
    "red": (214, 48, 49), "green": (39, 155, 88), "blue": (41, 98, 214), "yellow": (241, 196, 15),
    "purple": (142, 68, 173), "orange": (230, 126, 34), "white": (245, 245, 245), "black": (25, 25, 25),
}  # fmt: skip
_SIZES = ((400, 300), (300, 400), (320, 320), (256, 192), (192, 256), (400, 200), (128, 128), (96, 144), (48, 64))
_SHAPES = ("circle", "square", "triangle", "bar")
_PICTURES = 240
_ORIENTED_EVERY = 20  # every so many pictures carries an EXIF orientation, 2 to 8 in turn


@dataclass(frozen=True)
class SampleSource:
    """What was made.

    Attributes:
        list_path: Parquet file with the columns ``url`` and ``caption``.
        expected: Urls by what must become of them: ``ok``, ``duplicate``, or an error class of a failure.
        n_urls: Distinct urls, the sum of ``expected``.
        list_duplicates: Rows of the list whose url came earlier in it.
    """

    list_path: Path
    expected: dict[str, int]
    n_urls: int
    list_duplicates: int


@dataclass
class _Site:
    """The site while it is built: files, special answers, and the list's rows with their expected fate."""

    folder: Path
    base_url: str
    rows: list[tuple[str, str | None, str]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, path: str, fate: str, data: bytes | None = None, caption: str | None = None, **answer: Any) -> None:
        """Put a file and its row; ``answer`` is what the server does instead of only serving the file."""
        if data is not None:
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        if answer:
            self.answers[f"/{path}"] = answer
        self.rows.append((f"{self.base_url}/{path}", caption, fate))


def make_source(folder: Path, base_url: str) -> SampleSource:
    """Make the pictures and the list in ``folder``, unless they are there.

    The same arguments make the same bytes; urls are identity, so keep the port of ``base_url`` between runs.

    Args:
        folder: Served by ``etl.demo.server``; what was in it is replaced.
        base_url: Where the server will be, without a slash at its end.
    """
    truth = folder / TRUTH
    wanted = {"version": VERSION, "base_url": base_url}
    if truth.is_file():
        known = json.loads(truth.read_text())
        if {key: known.get(key) for key in wanted} == wanted:
            return SampleSource(folder / LIST, **known["source"])
    shutil.rmtree(folder, ignore_errors=True)
    site = _Site(folder, base_url)
    pictures = _add_pictures(site)
    _add_duplicates(site, pictures)
    _add_failures(site, pictures)
    repeated = site.rows[:2]  # as url lists do
    rows = site.rows + repeated
    random.Random(VERSION).shuffle(rows)  # noqa: S311 - reproducible on purpose
    pq.write_table(pa.table({"url": [row[0] for row in rows], "caption": [row[1] for row in rows]}), folder / LIST)
    (folder / ANSWERS).write_text(json.dumps(site.answers, indent=1))
    expected = dict(sorted(Counter(fate for _, _, fate in site.rows).items()))
    source = SampleSource(folder / LIST, expected, len(site.rows), len(repeated))
    content = {key: value for key, value in asdict(source).items() if key != "list_path"}
    truth.write_text(json.dumps({**wanted, "source": content}, indent=1))  # last: it says that all is there
    return source


def _add_pictures(site: _Site) -> list[bytes]:
    made: list[bytes] = []
    for number in range(_PICTURES):
        image, caption = draw(number)
        data, suffix = _encode(image, number)
        # One answer comes late, within any sensible time-out.
        site.add(f"pictures/{number:04d}.{suffix}", "ok", data, caption, **({"delay": 0.4} if number == 7 else {}))
        made.append(data)
    return made


def draw(number: int) -> tuple[Image.Image, str]:
    """Picture ``number`` (RGB, 48 to 400 px a side): coloured shapes on a gradient; and its caption."""
    chance = random.Random(f"picture {number}")  # noqa: S311 - reproducible on purpose
    size = _SIZES[number % len(_SIZES)]
    top, bottom, *colours = chance.sample(sorted(_COLOURS), 5)
    image = _gradient(size, _COLOURS[top], _COLOURS[bottom])
    pen = ImageDraw.Draw(image)
    words = []
    for colour in colours[: 1 + number % 3]:
        shape = chance.choice(_SHAPES)
        side = chance.randint(min(size) // 4, min(size) // 2)
        left, upper = chance.randint(0, size[0] - side), chance.randint(0, size[1] - side)
        _SHAPE[shape](pen, (left, upper, left + side, upper + side), _COLOURS[colour])
        words.append(f"a {colour} {shape}")
    pen.text((3, 3), f"{number}", fill=(128, 128, 128))  # no two pictures are the same
    return image, f"{' and '.join(words)} on a {top} background"


def _gradient(size: tuple[int, int], top: tuple[int, ...], bottom: tuple[int, ...]) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), ramp)


_Pen = Callable[[ImageDraw.ImageDraw, tuple[int, int, int, int], tuple[int, ...]], None]
_SHAPE: dict[str, _Pen] = {
    "circle": lambda pen, box, colour: pen.ellipse(box, fill=colour),
    "square": lambda pen, box, colour: pen.rectangle(box, fill=colour),
    "triangle": lambda pen, box, colour: pen.polygon(
        [(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) // 2, box[1])], fill=colour
    ),
    "bar": lambda pen, box, colour: pen.rectangle((box[0], (box[1] * 2 + box[3]) // 3, box[2], box[3]), fill=colour),
}


def _encode(image: Image.Image, number: int) -> tuple[bytes, str]:
    """JPEG, PNG or WebP in turn; some grey, some with alpha, some that a viewer must turn."""
    exif = Image.Exif()
    if number % _ORIENTED_EVERY == 0:
        exif[0x0112] = 2 + number // _ORIENTED_EVERY % 7
        return _bytes(image, "JPEG", quality=88, exif=exif), "jpg"
    if number % 10 == 3:
        return _bytes(image.convert("L"), "JPEG", quality=85), "jpg"
    if number % 10 == 4:
        image.putalpha(Image.linear_gradient("L").resize(image.size).point(lambda level: 128 + level // 2))
        return _bytes(image, "PNG"), "png"
    if number % 5 == 1:
        return _bytes(image, "PNG"), "png"
    if number % 5 == 2:
        return _bytes(image, "WEBP", quality=80), "webp"
    return _bytes(image, "JPEG", quality=90), "jpg"


def _bytes(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _add_duplicates(site: _Site, pictures: list[bytes]) -> None:
    for number in range(0, 120, 10):
        site.add(f"mirror/{number:04d}", "duplicate", pictures[number], f"a copy of picture {number}")
    first = site.rows[0][0].removeprefix(site.base_url)
    site.add("moved.jpg", "duplicate", caption="picture 0 at its old address", redirect=first)


def _add_failures(site: _Site, pictures: list[bytes]) -> None:
    for number in (0, 5, 60, 85):
        site.add(f"broken/cut-{number}.jpg", "decode", pictures[number][: len(pictures[number]) // 2])
    for number in range(3):
        site.add(f"broken/page-{number}.jpg", "decode", f"<html><body>{number}: log in first</body></html>".encode())
    for number in range(2):
        site.add(f"broken/empty-{number}.jpg", "empty", b"")
    for number in range(3):
        site.add(f"broken/pixel-{number}.png", "too_small", _bytes(Image.new("RGB", (8, 8), (number, 0, 0)), "PNG"))
    site.add("broken/bomb.png", "too_large", bomb())
    for number in range(12):
        site.add(f"gone/{number}.jpg", "http_404", caption=f"a picture that was here once, number {number}")
    site.add("failing.jpg", "http_500", status=500)
    site.add("private.png", "robots", pictures[1], headers={"X-Robots-Tag": "noai"})
    site.rows.append(("ftp://example.invalid/picture.jpg", "not on the web", "bad_url"))


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few bytes whose header claims ``side`` x ``side`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3 * 1024))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
