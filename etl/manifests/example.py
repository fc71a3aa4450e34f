"""What a format is given: one image with everything the lake says about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Sighting:
    """A place where the picture was found, and the caption it had there."""

    url: str
    source: str
    caption: str | None
    licence: str | None


@dataclass(frozen=True)
class Instance:
    """A detected object.

    Attributes:
        instance_id: Its id.
        label: The tag it was found for.
        phrase: The phrase as the detector answered it.
        score: Detector score, 0..1.
        box: xyxy in pixels after orientation.
        mask_counts: COCO compressed RLE, column-major, of the whole picture.
        mask_size: Height and width of the mask.
        mask_area: Pixels set in the mask.
        caption: Text of the crop, or None when there is none.
        flag: Why the caption is not a description of the crop (degenerate, or the label because it is small), or None.
        label_vector: Embedding of the label, or None.
        caption_vector: Embedding of ``caption_for_embedding``, or None.
    """

    instance_id: str
    label: str
    phrase: str
    score: float
    box: tuple[float, float, float, float]
    mask_counts: str
    mask_size: tuple[int, int]
    mask_area: int
    caption: str | None = None
    flag: str | None = None
    label_vector: Vector | None = field(default=None, compare=False)
    caption_vector: Vector | None = field(default=None, compare=False)

    @property
    def description(self) -> str | None:
        """The caption when it describes the crop, else None."""
        return self.caption if self.caption and self.flag is None else None


@dataclass(frozen=True)
class Example:
    """One image of a manifest; sizes and boxes are in pixels after EXIF orientation.

    Attributes:
        number: Position in the manifest, from 0.
        split: The split its id falls into.
        image_id: Digest of the stored bytes.
        source: The source of its canonical copy.
        tar, offset, length: Where the stored bytes lie.
        width, height: Pixels.
        orientation: EXIF flag of the stored bytes; other than 1, a reader that ignores it sees another picture.
        format: jpeg, png, webp, …
        sightings: Where it was found.
        tags: Tag and score, highest first.
        caption: Generated caption of the whole image, or None; a degenerate one counts as none.
        override: Caption given by the manifest's SQL, or None.
        outcomes: Status per stage.
        instances: Objects, highest score first.
    """

    number: int
    split: str
    image_id: str
    source: str
    tar: str
    offset: int
    length: int
    width: int
    height: int
    orientation: int
    format: str
    sightings: Sequence[Sighting]
    tags: Sequence[tuple[str, float]]
    caption: str | None
    override: str | None
    outcomes: Mapping[str, str]
    instances: Sequence[Instance]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def source_caption(self) -> str | None:
        """The caption of the first sighting that has one."""
        return next((one.caption for one in self.sightings if one.caption), None)

    def mask(self, instance: Instance) -> NDArray[np.bool_]:
        """The mask of one of its instances, boolean ``(height, width)``."""
        rle = {"size": list(instance.mask_size), "counts": instance.mask_counts.encode()}
        return coco.decode(rle).astype(bool)  # type: ignore[no-any-return]

    def fingerprint(self) -> bytes:
        """Bytes that differ whenever anything a format may write differs."""
        plain: dict[str, Any] = {**vars(self)}
        plain["sightings"] = [vars(one) for one in self.sightings]
        plain["instances"] = [
            {k: v for k, v in vars(one).items() if not k.endswith("_vector")} for one in self.instances
        ]
        vectors = [v for one in self.instances for v in (one.label_vector, one.caption_vector)]
        text = json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()
        return text + b"".join(b"\0" if vector is None else b"\1" + vector.tobytes() for vector in vectors)
