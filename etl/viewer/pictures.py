"""From a row of ``images`` to its picture: one range of a tar, checked against the id, turned upright."""

from __future__ import annotations

from PIL import Image

from etl.errors import DataError
from etl.lake import Lake
from etl.lake.ids import digest_bytes
from etl.lake.pixels import decode_upright

TAKEN_DOWN = "taken_down"


class PictureError(DataError):
    """The stored bytes of one picture are not what the lake says they are, or do not decode."""

    def __init__(self, image_id: str, reason: str, detail: object) -> None:
        remedy = None if reason == TAKEN_DOWN else "run its shard again, or take the image down"
        super().__init__(f"image {image_id}: {detail}", remedy=remedy)
        self.image_id, self.reason = image_id, reason


def read_bytes(lake: Lake, image_id: str, tar: str, offset: int, length: int) -> bytes:
    """The encoded bytes of a picture.

    Raises:
        PictureError: The bytes are not those of the id (reason ``bytes_differ``), or all zero, as a takedown leaves
            them (reason ``taken_down``).
        NotFoundError: The tar is gone.
        StorageError: The store failed.
    """
    data = lake.store.read_range(tar, offset, length)
    if digest_bytes(data) != image_id:
        if data.count(0) == length:
            raise PictureError(image_id, TAKEN_DOWN, f"its bytes at {tar}:{offset}+{length} were taken down")
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
