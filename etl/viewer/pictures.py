"""From a row of ``images`` to its picture: one range of a tar, checked against the id, turned upright."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps

from etl.errors import DataError
from etl.lake import Lake
from etl.lake.ids import digest_bytes


class PictureError(DataError):
    """The stored bytes of one picture are not what the lake says they are, or do not decode."""

    def __init__(self, image_id: str, reason: str, detail: object) -> None:
        super().__init__(f"image {image_id}: {detail}", remedy="run its shard again, or take the image down")
        self.image_id, self.reason = image_id, reason


def read_bytes(lake: Lake, image_id: str, tar: str, offset: int, length: int) -> bytes:
    """The encoded bytes of a picture.

    Raises:
        PictureError: The bytes are not those of the id (reason ``bytes_differ``).
        NotFoundError: The tar is gone.
        StorageError: The store failed.
    """
    data = lake.store.read_range(tar, offset, length)
    if digest_bytes(data) != image_id:
        raise PictureError(image_id, "bytes_differ", f"the bytes at {tar}:{offset}+{length} have another digest")
    return data


def decode(image_id: str, data: bytes) -> Image.Image:
    """RGB pixels after EXIF orientation, which is what every box and mask refers to.

    Raises:
        PictureError: The bytes do not decode to the end (reason ``decode``).
    """
    try:
        with warnings.catch_warnings():
            # Size limits were applied when the picture entered the lake.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
                return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(image_id, "decode", f"cannot be decoded: {error}") from error
