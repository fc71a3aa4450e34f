"""From an item of a work order to its picture: bytes out of a tar, checked against the image id, decoded, upright."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from etl.errors import RetryableError
from etl.lake.ids import digest_bytes
from etl.lake.pixels import decode_upright
from etl.storage import LocalStore, NotFoundError, Store

log = logging.getLogger(__name__)

COPY_SHARE = 0.25  # of a tar's bytes: below it, ranges cost less than a copy
_FREE_BYTES = 1 << 30  # of the scratch disk, left to others


@dataclass(frozen=True)
class Broken:
    """Why an image has no picture: a short name, the words, and whether another try may help."""

    reason: str
    error: str
    retryable: bool = False


class TarReader:
    """The bytes of an order's pictures, by offset, from a local copy of their tar or straight from the store.

    Args:
        store: Where the tars are.
        items: The items that will be read (``tar``, ``offset``, ``length``); they decide whether a copy pays.
        scratch: Folder for the copy; whoever made it removes it.
        copy: Whether to copy: by default not from a local folder, nor for few bytes, nor onto a full disk.
    """

    def __init__(
        self, store: Store, items: Sequence[Mapping[str, Any]], scratch: Path, *, copy: bool | None = None
    ) -> None:
        self._store, self._scratch, self._copy = store, scratch, copy
        self._wanted: dict[str, int] = {}
        for item in items:
            self._wanted[item["tar"]] = self._wanted.get(item["tar"], 0) + int(item["length"])
        self._sizes: dict[str, int] = {}
        self._copies: dict[str, Path] = {}

    def prepare(self) -> None:
        """Copy what is worth copying.

        Raises:
            NotFoundError: A tar is gone.
            StorageError: The store failed.
        """
        for number, (tar, wanted) in enumerate(sorted(self._wanted.items())):
            found = self._store.stat(tar)
            if found is None:
                raise NotFoundError(self._store.uri, tar)
            self._sizes[tar] = found.size
            if self._pays(found.size, wanted):
                path = self._scratch / f"{number}.tar"
                self._store.download(tar, path)
                self._copies[tar] = path

    def _pays(self, size: int, wanted: int) -> bool:
        if self._copy is not None:
            return self._copy
        if isinstance(self._store, LocalStore) or wanted < COPY_SHARE * size:
            return False
        free = shutil.disk_usage(self._scratch).free
        if free < size + _FREE_BYTES:
            log.warning("scratch %s has %d bytes free, the tar has %d: reading ranges", self._scratch, free, size)
            return False
        return True

    def read(self, item: Mapping[str, Any]) -> bytes | Broken:
        """The encoded bytes of an item, or Broken ``bytes_changed`` when they are no longer those of its id.

        Raises:
            StorageError: The store failed.
        """
        tar, offset, length = item["tar"], int(item["offset"]), int(item["length"])
        place = f"{tar} at {offset}+{length}"
        if offset + length > self._sizes[tar]:
            return Broken("bytes_changed", f"{place}: the tar has {self._sizes[tar]} bytes only", retryable=True)
        if tar in self._copies:
            with self._copies[tar].open("rb") as file:
                file.seek(offset)
                data = file.read(length)
        else:
            data = self._store.read_range(tar, offset, length)
        if digest_bytes(data) != item["image_id"]:
            return Broken("bytes_changed", f"{place}: the digest is {digest_bytes(data)}", retryable=True)
        return data


def decode(data: bytes, width: int, height: int) -> Image.Image | Broken:
    """The pixels of a picture, see ``etl.lake.pixels``.

    Args:
        data: The encoded picture.
        width: Pixels it must have after orientation, as the lake knows it: boxes refer to these.
        height: Likewise.

    Returns:
        The picture, or Broken ``decode``: any exception a decoder raises on these bytes is the picture's own.

    Raises:
        RetryableError: The machine has no memory for it.
    """
    try:
        picture = decode_upright(data)
    except MemoryError as error:
        raise RetryableError(
            f"no memory to decode a picture of {width}x{height} pixels", remedy="give the process more memory"
        ) from error
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything; it becomes the image's outcome
        return Broken("decode", f"{type(error).__name__}: {error}")
    if picture.size != (width, height):
        return Broken("decode", f"{picture.width}x{picture.height} pixels, the lake says {width}x{height}")
    return picture
