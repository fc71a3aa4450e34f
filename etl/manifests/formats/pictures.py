"""Pictures as a trainer may read them: upright pixels, whatever it thinks of EXIF flags."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from etl.manifests.example import Example
from etl.viewer.pictures import decode

_EXTENSIONS = {"jpeg": "jpg"}


def jpeg(picture: Image.Image, quality: int) -> bytes:
    """A picture as JPEG without chroma subsampling surprises: quality as given, no EXIF."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def upright(example: Example, data: bytes, quality: int) -> tuple[str, bytes, bool]:
    """Extension and bytes that show the picture after orientation, and whether they were encoded again.

    The stored bytes are kept wherever their orientation flag is 1.

    Raises:
        PictureError: They do not decode.
    """
    picture = decode(example.image_id, data)
    if example.orientation == 1:
        return _EXTENSIONS.get(example.format, example.format), data, False
    return "jpg", jpeg(picture, quality), True


def upright_jpeg(example: Example, data: bytes, quality: int) -> tuple[bytes, bool]:
    """The picture after orientation as a three-channel JPEG, and whether it was encoded again.

    Raises:
        PictureError: It does not decode.
    """
    picture = decode(example.image_id, data)
    if example.orientation == 1 and example.format == "jpeg" and _mode(data) == "RGB":
        return data, False
    return jpeg(picture, quality), True


def _mode(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.mode


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, object]:
    """COCO compressed RLE with text counts, ``size`` as ``[height, width]``."""
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def xywh(box: tuple[float, float, float, float], size: tuple[int, int]) -> list[int]:
    """A box as whole pixels ``[x, y, width, height]`` inside a picture of ``(width, height)``, at least 1 x 1.

    >>> xywh((9.6, 0.0, 20.4, 3.2), (20, 30)), xywh((19.9, 2.0, 20.0, 2.2), (20, 30))
    ([10, 0, 10, 3], [19, 2, 1, 1])
    """
    x1 = min(max(round(box[0]), 0), size[0] - 1)
    y1 = min(max(round(box[1]), 0), size[1] - 1)
    x2 = min(max(round(box[2]), x1 + 1), size[0])
    y2 = min(max(round(box[3]), y1 + 1), size[1])
    return [x1, y1, x2 - x1, y2 - y1]
