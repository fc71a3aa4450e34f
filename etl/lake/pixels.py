"""The pixels of a stored picture: the one decoder that boxes, masks, manifests and contact sheets all refer to."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps


def decode_upright(data: bytes) -> Image.Image:
    """RGB pixels after EXIF orientation; transparent pixels are blended onto white, 16-bit grey is scaled to 8.

    Args:
        data: The encoded picture.

    Raises:
        Exception: Whatever Pillow raises for bytes that are no whole picture, which is nearly anything; size limits
            were applied when the picture entered the lake, and Pillow refuses bombs by the header alone.
    """
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        return _rgb(ImageOps.exif_transpose(opened))


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow's own conversion clips instead of scaling
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")
