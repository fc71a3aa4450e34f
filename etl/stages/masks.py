"""Masks as COCO run lengths: column-major, compressed, as ASCII text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Rle:
    """A mask as COCO compressed RLE.

    Attributes:
        counts: The compressed run lengths.
        height: Pixels.
        width: Pixels.
        area: Pixels set.
    """

    counts: str
    height: int
    width: int
    area: int


def encode(mask: npt.NDArray[np.bool_]) -> Rle:
    """Encode a mask [height, width]."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Rle(encoded["counts"].decode("ascii"), mask.shape[0], mask.shape[1], int(coco.area(encoded)))


def decode(rle: Rle) -> npt.NDArray[np.bool_]:
    """The mask [height, width] of ``encode``."""
    from pycocotools import mask as coco

    encoded = {"size": [rle.height, rle.width], "counts": rle.counts.encode("ascii")}
    return np.asarray(coco.decode(encoded), dtype=np.bool_)
