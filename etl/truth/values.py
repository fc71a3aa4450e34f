"""Values of a file that nobody has checked yet: each is what it should be, or the reader is told what is wrong."""

from __future__ import annotations

import re
import reprlib
from array import array
from typing import Any

import numpy as np

from etl.truth.model import Box, Polygons, Runs

TOLERANCE = 0.51  # pixels that a box or outline may lie outside its picture; it is clipped then
_LARGEST = 1e9  # no coordinate or size of a picture comes near it
_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 42, 42, 2
_IMAGE_ID = re.compile(r"[0-9a-f]{32}")


class ValueProblem(ValueError):  # noqa: N818 - it is about a value, and the reader turns it into a fault
    """A value is wrong.

    Args:
        reason: A short name, such as ``bad_box``.
        words: What is wrong with it.
    """

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason, self.words = reason, words


def shown(value: object) -> str:
    """A value for a message: however large it is, only its beginning.

    >>> shown([1, 2, 3]), shown("x" * 100)
    ('[1, 2, 3]', "'xxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxx'")
    """
    return _SHORT.repr(value)


def is_key(value: object) -> bool:
    """Whether a value can be the id of something: a whole number or a text.

    >>> is_key(7), is_key("a7"), is_key(None), is_key([7])
    (True, True, False, False)
    """
    return isinstance(value, int | str) and not isinstance(value, bool)


def number(value: object) -> float | None:
    """A finite number of sensible size, or None.

    >>> number(3), number("3"), number(float("nan")), number(10**400), number(True)
    (3.0, None, None, None, None)
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _LARGEST:
        return None
    return float(value)


def side(value: object) -> int | None:
    """Pixels of a side of a picture: a whole number from 1, or None."""
    found = number(value)
    return int(found) if found is not None and found >= 1 and found == int(found) else None


def text(value: object) -> str | None:
    r"""A text with something in it that UTF-8 can hold, without the blanks around it, or None.

    >>> text(" a dog "), text("  "), text(7), text("\ud800")
    ('a dog', None, None, None)
    """
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        return None
    return value.strip()


def image_id(value: object) -> str | None:
    """An image id of a lake, or None."""
    return value if isinstance(value, str) and _IMAGE_ID.fullmatch(value) else None


def caption(value: object) -> str | None:
    """A caption, or None where there is none.

    Raises:
        ValueProblem: ``bad_caption``: it is no text, or a blank one.
    """
    if value is None:
        return None
    found = text(value)
    if found is None:
        raise ValueProblem("bad_caption", f"caption {shown(value)}, expected a text with words")
    return found


def tags(value: object) -> tuple[str, ...] | None:
    """The tags of a picture, sorted, each once; None where the file gives none.

    Raises:
        ValueProblem: ``bad_tags``: they are no list of texts.
    """
    if value is None:
        return None
    found = [text(one) for one in value] if isinstance(value, list) else [None]
    if None in found:
        raise ValueProblem("bad_tags", f"tags {shown(value)}, expected a list of texts")
    return tuple(sorted({one for one in found if one is not None}))


def box(value: object, width: int, height: int) -> Box:
    """The box, xyxy in pixels and clipped to the picture, of one that is given as x, y, width and height.

    Args:
        value: What the file says.
        width: Of the picture, pixels.
        height: Of the picture, pixels.

    Raises:
        ValueProblem: ``bad_box``: it is not four finite numbers, has no area, or leaves the picture.
    """
    sides = [number(one) for one in value] if isinstance(value, list) and len(value) == 4 else [None]
    x, y, across, down = sides if None not in sides else (None,) * 4
    if x is None or y is None or across is None or down is None:
        raise ValueProblem("bad_box", f"bbox {shown(value)}, expected four finite numbers: x, y, width, height")
    corners = (x, y, x + across, y + down)
    if min(corners[:2]) < -TOLERANCE or corners[2] > width + TOLERANCE or corners[3] > height + TOLERANCE:
        raise ValueProblem("bad_box", f"bbox {shown(value)} leaves its image of {width}x{height} pixels")
    edges = np.clip(corners, 0, (width, height, width, height)).astype(np.float32)  # as the lake keeps them
    x1, y1, x2, y2 = (float(edge) for edge in edges)
    if x1 >= x2 or y1 >= y2:
        raise ValueProblem("bad_box", f"bbox {shown(value)} has no area inside its image of {width}x{height} pixels")
    return x1, y1, x2, y2


def mask(value: object) -> Runs | Polygons | None:
    """A segmentation as it stands in the file, without a look at its numbers; None where there is none.

    Raises:
        ValueProblem: ``bad_mask``: it is neither run lengths nor a list of outlines.
    """
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return _runs(value)
    if isinstance(value, list):
        return Polygons(tuple(_ring(one) for one in value))
    raise ValueProblem("bad_mask", f"segmentation {shown(value)}, expected run lengths or a list of outlines")


def _runs(value: dict[str, Any]) -> Runs:
    size, counts = value.get("size"), value.get("counts")
    height, width = (side(one) for one in size) if isinstance(size, list) and len(size) == 2 else (None, None)
    if height is None or width is None:
        raise ValueProblem("bad_mask", f"segmentation of size {shown(size)}, expected height and width in pixels")
    if isinstance(counts, str):
        return Runs(height, width, counts)
    if isinstance(counts, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in counts):
        return Runs(height, width, tuple(counts))
    raise ValueProblem("bad_mask", f"segmentation with counts {shown(counts)}, expected a text or whole numbers")


def _ring(value: object) -> array[float]:
    if isinstance(value, list) and not any(isinstance(one, bool) for one in value):
        try:
            return array("d", value)
        except (TypeError, OverflowError):
            pass  # told below
    raise ValueProblem("bad_mask", f"an outline {shown(value)}, expected numbers: x, y, x, y, …")
