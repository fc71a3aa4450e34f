"""Is it a picture? Decoded whole, within limits; and what the lake says of it."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from etl.errors import RetryableError
from etl.ingest.failures import DECODE, EMPTY, TOO_LARGE, TOO_SMALL
from etl.settings.catalog import Download

# What pictures on the web are. Pillow's other readers include some that start programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """A picture that decodes: pixels after EXIF orientation, its orientation flag, format and perceptual hash."""

    width: int
    height: int
    orientation: int
    format: str
    phash: str


@dataclass(frozen=True)
class Rejected:
    """Why bytes are not a picture the lake takes: an error class and words."""

    error_class: str
    error: str


def inspect(data: bytes, limits: Download) -> Picture | Rejected:
    """Decode ``data`` whole.

    Truncated pictures fail; the pixels a header claims are checked before anything is decoded.

    Raises:
        RetryableError: Memory is short.
    """
    if not data:
        return Rejected(EMPTY, "the answer has no bytes")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > limits.max_pixels:
                return Rejected(TOO_LARGE, f"{width}x{height} is more than {limits.max_pixels} pixels")
            if min(width, height) < limits.min_side:
                return Rejected(TOO_SMALL, f"{width}x{height}: the shorter side is under {limits.min_side} pixels")
            return _picture(image)
    except Image.DecompressionBombError as error:
        return Rejected(TOO_LARGE, str(error))
    except UnidentifiedImageError:
        return Rejected(DECODE, f"no picture format begins with {data[:16]!r}")
    except MemoryError as error:
        raise RetryableError("memory is too short to decode a picture", remedy="give the task more memory") from error
    except Exception as error:  # noqa: BLE001 - decoders raise anything for broken bytes; recorded with its reason
        return Rejected(DECODE, f"{type(error).__name__}: {error}"[:500])


def _picture(image: Image.Image) -> Picture:
    import imagehash

    image.load()
    flag = image.getexif().get(_ORIENTATION, 1)
    name = (image.format or "").lower()
    upright = ImageOps.exif_transpose(image)
    return Picture(
        width=upright.width,
        height=upright.height,
        orientation=flag if flag in range(1, 9) else 1,
        format="jpeg" if name == "mpo" else name,
        phash=str(imagehash.phash(upright)),
    )
