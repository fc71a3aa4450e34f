"""Boxes, masks and labels drawn on a picture, readable at the size of a thumbnail."""

from __future__ import annotations

import colorsys
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from etl.errors import ConfigurationError

Colour = tuple[int, int, int]
_OPACITY = 0.45


@dataclass(frozen=True)
class Drawn:
    """One object to draw.

    Attributes:
        label: Text on its tag; the colour follows from it.
        box: xyxy in pixels of the picture.
        mask: Boolean ``(height, width)`` of the picture, or None.
        score: 0..1, shown behind the label when given.
    """

    label: str
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_] | None = None
    score: float | None = None


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow carries, in pixels; no file of the machine is needed."""
    return ImageFont.load_default(size)


def wrapped(text: str, width: int, size: int) -> list[str]:
    """The words of a text in lines of at most ``width`` pixels, in letters of ``size``; a longer word has its own."""
    lines, letters = [""], font(size)
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if letters.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def save_page(page: Image.Image, path: Path, remedy: str = "choose another file") -> None:
    """Write a page as PNG, its folder too; raises ConfigurationError with ``remedy`` when that cannot be."""
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error}", remedy=remedy) from error


def colour_of(label: str) -> Colour:
    """A bright colour that is the same for a label in every picture and process."""
    number = int.from_bytes(hashlib.sha256(label.encode()).digest()[:4])
    red, green, blue = colorsys.hsv_to_rgb(number % 360 / 360, 0.85, 0.95 if number % 2 else 0.8)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(picture: Image.Image, objects: Sequence[Drawn], *, width: int) -> Image.Image:
    """The picture scaled to ``width`` pixels with its objects drawn on it; larger boxes lie below smaller ones.

    Args:
        picture: RGB, the picture that boxes and masks refer to.
        objects: What to draw.
        width: Width of the result in pixels.
    """
    scale = width / picture.width
    size = (width, max(1, round(picture.height * scale)))
    ordered = sorted(objects, key=lambda one: -_area(one.box))
    canvas = _with_masks(picture.resize(size, Image.Resampling.BICUBIC), ordered)
    pencil = ImageDraw.Draw(canvas)
    line = max(1, width // 160)
    for one in ordered:
        pencil.rectangle(_scaled(one.box, scale, size), outline=colour_of(one.label), width=line)
    for one in ordered:
        _tag(pencil, one, _scaled(one.box, scale, size), size)
    return canvas


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _scaled(box: tuple[float, float, float, float], scale: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(edge * scale) for edge in box)
    x1, y1 = min(max(x1, 0), size[0] - 1), min(max(y1, 0), size[1] - 1)
    return x1, y1, max(x1, min(x2, size[0] - 1)), max(y1, min(y2, size[1] - 1))


def _with_masks(picture: Image.Image, objects: Sequence[Drawn]) -> Image.Image:
    pixels = np.asarray(picture, dtype=np.float32).copy()
    for one in objects:
        if one.mask is None:
            continue
        small = Image.fromarray(one.mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
        inside = np.asarray(small) >= 128
        pixels[inside] = (1 - _OPACITY) * pixels[inside] + _OPACITY * np.array(colour_of(one.label), dtype=np.float32)
    return Image.fromarray(pixels.round().astype(np.uint8))


def _tag(pencil: ImageDraw.ImageDraw, one: Drawn, box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    text = one.label if one.score is None else f"{one.label} {one.score:.2f}"
    letters = font(max(10, size[0] // 32))
    left, top, right, bottom = pencil.textbbox((0, 0), text, font=letters)
    width, height = round(right - left) + 4, round(bottom - top) + 4
    x = max(0, min(box[0], size[0] - width))
    y = box[1] - height if box[1] >= height else box[1]
    colour = colour_of(one.label)
    pencil.rectangle((x, y, x + width, y + height), fill=colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pencil.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=letters)
