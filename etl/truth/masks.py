"""From what a file says of a mask to run lengths that the lake takes; nothing in a file is trusted."""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.lake.rle import measure
from etl.stages.masks import Rle, decode, encode
from etl.truth.model import Polygons, Runs
from etl.truth.values import TOLERANCE, ValueProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

# Steps of an outline, in pixels, that pycocotools is asked to walk at once: it keeps some 200 bytes for each, and does
# not look whether it got them.
_MAX_OUTLINE = 1_000_000
_CORNERS = 3  # that a polygon has at least


def check_mask(mask: Runs | Polygons | None, width: int, height: int) -> None:
    """Refuse what ``mask_of`` would refuse, without making the mask: that takes far longer.

    Args:
        mask: What a file says.
        width: Of the picture, pixels.
        height: Of the picture, pixels.

    Raises:
        ValueProblem: ``bad_mask``: it does not decode, is of another size, or leaves the picture.
    """
    if isinstance(mask, Runs):
        _check_runs(mask, width, height)
    elif isinstance(mask, Polygons):
        _corners(mask, width, height)


def mask_of(mask: Runs | Polygons | None, width: int, height: int) -> Rle:
    """The mask in the one form that equal masks share, so that equal objects get equal ids.

    Args:
        mask: What a file says. None means that it says nothing: the mask has no pixel then, since any other would
            claim what nobody has looked at.
        width: Of the picture, pixels.
        height: Of the picture, pixels.

    Raises:
        ValueProblem: As of ``check_mask``.
    """
    if mask is None:
        return _nothing(width, height)
    return _of_runs(mask, width, height) if isinstance(mask, Runs) else _of_polygons(mask, width, height)


@lru_cache(maxsize=8)
def _nothing(width: int, height: int) -> Rle:
    return encode(np.zeros((height, width), np.bool_))


def _of_runs(mask: Runs, width: int, height: int) -> Rle:
    _check_runs(mask, width, height)
    if isinstance(mask.counts, str):
        return encode(decode(Rle(mask.counts, height, width, 0)))
    runs = np.asarray(mask.counts, np.int64)
    filled = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return encode(filled.reshape((height, width), order="F"))


def _check_runs(mask: Runs, width: int, height: int) -> None:
    if (mask.width, mask.height) != (width, height):
        raise _problem(f"a mask of {mask.width}x{mask.height} pixels, of an image of {width}x{height}")
    pixels = _compressed(mask.counts, width * height) if isinstance(mask.counts, str) else _plain(mask.counts)
    if pixels != width * height:
        raise _problem(f"a mask whose runs give {pixels} pixels, of an image of {width}x{height}")


def _compressed(counts: str, pixels: int) -> int:
    """Pixels of all runs of a compressed text; it is then safe to decode if they are as many as expected."""
    if not counts.isascii() or len(counts) > 7 * (pixels + 2):  # 7: characters of the longest number
        raise _problem("a mask whose counts are no compressed run lengths")
    measured = measure(pa.chunked_array([pa.array([counts])]))
    if measured.broken[0]:
        raise _problem("a mask whose counts are no compressed run lengths")
    return int(measured.pixels[0])


def _plain(counts: Sequence[int]) -> int:
    if any(run < 0 for run in counts):
        raise _problem("a mask with a negative run length")
    return sum(counts)


def _of_polygons(mask: Polygons, width: int, height: int) -> Rle:
    from pycocotools import mask as coco

    rings = [corners.ravel().tolist() for corners in _corners(mask, width, height)]
    merged = coco.merge(coco.frPyObjects(rings, height, width))
    return Rle(merged["counts"].decode("ascii"), height, width, int(coco.area(merged)))


def _corners(mask: Polygons, width: int, height: int) -> list[npt.NDArray[np.float64]]:
    return [_ring(ring, width, height) for ring in mask.rings]


def _ring(ring: array[float], width: int, height: int) -> npt.NDArray[np.float64]:
    """Corners [n, 2] of an outline, clipped to the picture."""
    if len(ring) % 2 or len(ring) < 2 * _CORNERS:
        raise _problem(f"an outline of {len(ring)} numbers, expected x and y of {_CORNERS} corners or more")
    corners = np.asarray(ring, np.float64).reshape(-1, 2)
    inside = (corners >= -TOLERANCE) & (corners <= np.asarray([width, height]) + TOLERANCE)  # not of NaN
    if not inside.all():
        raise _problem(f"an outline that leaves its image of {width}x{height} pixels")
    corners = np.clip(corners, 0, [width, height])
    steps = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1) + 1
    if steps.sum() > _MAX_OUTLINE:
        raise _problem(f"an outline of {steps.sum():.0f} pixels in length, at most {_MAX_OUTLINE} can be filled")
    return corners


def _problem(words: str) -> ValueProblem:
    return ValueProblem("bad_mask", words)
