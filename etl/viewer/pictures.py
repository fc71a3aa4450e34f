"""From a row of ``images`` to its picture: one range of a tar, checked against the id, turned upright."""

from __future__ import annotations

from PIL import Image

from etl.errors import DataError
from etl.lake import Lake
from etl.lake.ids import digest_bytes
from etl.lake.pixels import decode_upright


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
    """The pixels of a picture, see ``etl.lake.pixels``.

    Raises:
        PictureError: The bytes do not decode to the end (reason ``decode``).
    """
    try:
        return decode_upright(data)
    except Exception as error:
        raise PictureError(image_id, "decode", f"cannot be decoded: {error}") from error
