"""A scene as an encoded picture: JPEG, PNG or WebP, some turned, some grey, some with alpha.

However it is stored, decoded upright it is the scene again, so that the scene's boxes and masks are its truth.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from etl.shapes.world.scene import Pixels, Scene

FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
TURNED_EVERY = 10  # every so many pictures carries an EXIF orientation, 2 to 8 in turn
_ORIENTATION = 0x0112
# What turns an upright picture into the stored one, by EXIF orientation: the opposite of what a viewer does.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Encoded:
    """The bytes of a picture, and the suffix that files of its format have, without a dot."""

    data: bytes
    suffix: str


def encode(scene: Scene, number: int) -> Encoded:
    """Encode a scene in the way its number chooses; the same arguments give the same bytes.

    Formats come in turn, and every tenth picture is turned. Half of the PNGs have alpha. A picture without colours is
    stored with one channel, never a coloured one: "red" would be no truth of it. WebP has no such mode, so it
    becomes a PNG.
    """
    kind = FORMATS[number % len(FORMATS)]
    orientation = 2 + number // TURNED_EVERY % len(_STORED) if number % TURNED_EVERY == 0 else 1
    if is_gray(scene.pixels):
        picture, kind = Image.fromarray(scene.pixels[..., 0]), "PNG" if kind == "WEBP" else kind
    elif kind == "PNG" and number % 2:
        picture = with_alpha(scene.pixels)
    else:
        picture = Image.fromarray(scene.pixels)
    return Encoded(_bytes(picture, kind, 80 + 7 * number % 16, orientation), SUFFIXES[kind])


def is_gray(pixels: Pixels) -> bool:
    """Whether pixels (uint8 [height, width, 3]) have no colours."""
    return bool((pixels == pixels[..., :1]).all())


def with_alpha(pixels: Pixels) -> Image.Image:
    """An RGBA picture that blends onto white to these pixels (uint8 [height, width, 3]) within 2 levels.

    Its own colours are darker than they look, so whoever drops alpha instead of blending sees another picture.
    """
    height, width = pixels.shape[:2]
    darkest = pixels.min(axis=2).astype(np.float32)
    least = np.maximum(np.ceil(255 - darkest), 1)  # with less, no colour would be dark enough
    alpha = np.ceil(least + (255 - least) * _ramp(height, width)).astype(np.float32)[..., None]
    hidden = 255 - (255 - pixels.astype(np.float32)) * 255 / alpha
    colours = np.clip(np.rint(hidden), 0, 255)
    return Image.fromarray(np.concatenate([colours, alpha], axis=2).astype(np.uint8), mode="RGBA")


def _ramp(height: int, width: int) -> npt.NDArray[np.float32]:
    """From 0 at the top to 1 at the bottom."""
    ramp: npt.NDArray[np.float32] = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    return np.repeat(ramp, width, axis=1)


def _bytes(picture: Image.Image, kind: str, quality: int, orientation: int) -> bytes:
    options: dict[str, Any] = {} if kind == "PNG" else {"quality": quality}
    if orientation != 1:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        picture, options["exif"] = picture.transpose(_STORED[orientation]), exif
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
