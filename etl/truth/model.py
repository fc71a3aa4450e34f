"""What a dataset says about its pictures, whatever format it was written in.

Pixels are those of the picture after EXIF orientation, origin top left; boxes are xyxy in pixels.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Runs:
    """A mask as COCO run lengths, column-major, as they were read: nothing in them is checked yet.

    Attributes:
        height: Pixels, as the file says.
        width: Pixels, as the file says.
        counts: Compressed text, or the run lengths themselves.
    """

    height: int
    width: int
    counts: str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Polygons:
    """A mask as outlines, each x, y, x, y, … in pixels, as they were read: nothing in them is checked yet."""

    rings: tuple[array[float], ...]


@dataclass(frozen=True, slots=True)
class TruthInstance:
    """One object.

    Attributes:
        name: What messages call it, such as ``annotation 12``.
        label: Name of its category.
        box: xyxy in pixels, inside the picture.
        mask: Its mask, checked when its rows are made; None where the file gives none.
        caption: Its caption, or None.
    """

    name: str = field(compare=False)
    label: str
    box: Box
    mask: Runs | Polygons | None
    caption: str | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why nothing that a file says of a picture can be used.

    Attributes:
        reason: A short name, such as ``bad_box``.
        words: What is wrong and which annotation it is.
    """

    reason: str
    words: str


@dataclass(frozen=True, slots=True)
class TruthImage:
    """One picture of a file; two are equal when they say the same.

    Attributes:
        number: Its place in ``Truth.images``.
        name: What messages call it, such as ``image 12``.
        url: Where it was found, or None.
        image_id: Its id in the lake, when the file knows it.
        width: Pixels.
        height: Pixels.
        tags: What it shows, sorted.
        instances: Its objects, in the order of the file.
        caption: Its caption, or None.
        fault: What is wrong with it; all else may then be missing.
    """

    number: int = field(compare=False)
    name: str = field(compare=False)
    url: str | None = field(compare=False)
    image_id: str | None = field(compare=False)
    width: int
    height: int
    tags: tuple[str, ...] = ()
    instances: tuple[TruthInstance, ...] = ()
    caption: str | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Truth:
    """What the files of a dataset say.

    Attributes:
        sha256: Digest of the files' content, 64 hex digits.
        images: Its pictures, in the order of the file.
        stages: What it speaks of: ``tag``, ``ground``, ``caption``, in this order.
        crowds: Annotations of crowds: no instances are made of them.
        strays: Annotations and captions of no picture of the file.
        further_captions: Captions of pictures that have one already: the first is taken.
    """

    sha256: str
    images: Sequence[TruthImage]
    stages: tuple[str, ...]
    crowds: int = 0
    strays: int = 0
    further_captions: int = 0
