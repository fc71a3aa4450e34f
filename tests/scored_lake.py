"""A lake with a truth and somebody to score, both made by hand, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from handmade import Handmade, Picture, Thing, rectangle
from pycocotools import mask as coco
from rows import at, row

from etl.lake import Lake
from etl.lake.ids import digest

Box = tuple[int, int, int, int]
SIZE = (40, 30)  # of every picture: width, height
STAGES = ("tag", "ground", "caption")
NO_MASK = (0, 0, 0, 0)


@dataclass(frozen=True)
class Object:
    """An object whose mask is a rectangle: that of its box unless another, or ``NO_MASK``, is given (whole pixels)."""

    label: str
    box: Box
    mask: Box | None = None
    caption: str | None = None
    flag: str | None = None
    score: float = 0.5


@dataclass(frozen=True)
class Answer:
    """What somebody says of one picture; ``status`` per stage where it is not ok, or empty for want of anything."""

    tags: Sequence[str] = ()
    objects: Sequence[Object] = ()
    caption: str | None = None
    status: Mapping[str, str] = field(default_factory=dict)

    def outcome(self, stage: str) -> str:
        said = {
            "tag": self.tags,
            "ground": self.objects,
            "caption": self.caption or any(o.caption for o in self.objects),
        }
        return self.status.get(stage, "ok" if said[stage] else "empty")


class ScoredLake:
    """Says what annotators answered about the pictures of a lake; it is written when ``lake`` is next asked for.

    Args:
        lake: A lake made by ``add_pictures``.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        images = lake.table("images").to_pyarrow_table().sort_by("offset").to_pylist()
        sightings = {row["image_id"]: row["source"] for row in lake.table("sightings").to_pyarrow_table().to_pylist()}
        self._shards = {row["image_id"]: row["shard_id"] for row in images}
        self.hand = [one for one in self._shards if sightings[one] == "hand"]
        self.other = [one for one in self._shards if sightings[one] == "other"]
        self._pending: dict[str, list[dict[str, Any]]] = {}
        self._written = 0

    @property
    def lake(self) -> Lake:
        """The lake, with everything that was said."""
        self._written += 1
        for table, rows in self._pending.items():
            self._lake.append(table, rows, digest(table, self._written))
        self._pending = {}
        return self._lake

    def truth(self, answers: Sequence[Answer | None], name: str = "truth", **given: Any) -> dict[str, str]:
        """What is right for each picture; as ``say``."""
        return self.say(name, answers, kind="dataset", **given)

    def say(
        self,
        name: str,
        answers: Sequence[Answer | None],
        *,
        kind: str = "model",
        ids: Sequence[str] | None = None,
        stages: Sequence[str] = STAGES,
        current: str | None = None,
        version: int = 1,
    ) -> dict[str, str]:
        """Say what an annotator answers about pictures (None: it was never asked); returns its id per stage.

        Args:
            name: Its model, or the dataset.
            answers: Per picture.
            kind: ``model`` or ``dataset``.
            ids: The pictures; else the first ones of the source ``hand``.
            stages: What it speaks of.
            current: The source whose current annotator it becomes.
            version: Another one gives another annotator of the same name, that spoke later.
        """
        named = self.hand[: len(answers)] if ids is None else ids
        pairs = [(i, one) for i, one in zip(named, answers, strict=True) if one is not None]
        made = {stage: digest(kind, name, stage, version) for stage in stages}
        for stage, annotator_id in made.items():
            who = {"annotator_id": annotator_id, "stage": stage, "model": name, "kind": kind, "created_at": at(version)}
            self.add("annotators", **who, record="{}", untrained=False)
            if current is not None:
                self.add("current", stage=stage, source=current, annotator_id=annotator_id, promoted_at=at(version))
            unit = {"annotator_id": annotator_id, "unit": digest("order", annotator_id)}
            for table, one in _rows(stage, pairs):
                self.add(table, **one, **unit)
            for image_id, one in pairs:
                outcome = {"stage": stage, "status": one.outcome(stage), "requested_at": at(24 + version)}
                self.add("outcomes", image_id=image_id, **outcome, **unit)
        return made

    def add(self, table: str, **given: Any) -> None:
        """One row, of which some columns are given."""
        if "image_id" in given:
            given["shard_id"] = self._shards[given["image_id"]]
        self._pending.setdefault(table, []).append(row(table, **given))


def add_pictures(lake: Lake) -> None:
    """Three pictures of the source ``hand`` and one of ``other``."""
    things = [Thing("dog", (8, 6, 20, 20)), Thing("ball", (25, 10, 35, 20))]
    hand = Handmade(lake)
    hand.add(*(Picture(SIZE, things, seed=seed) for seed in range(3)), source="hand")
    hand.add(Picture(SIZE, things, seed=3), source="other")


def _rows(stage: str, pairs: Sequence[tuple[str, Answer]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Table and columns of every row of one stage."""
    for image_id, one in pairs:
        if one.outcome(stage) != "ok":
            continue
        if stage == "tag":
            yield "tags", {"image_id": image_id, "tags": [{"tag": tag, "score": 0.5} for tag in one.tags]}
        if stage == "caption" and one.caption:
            yield "captions", {"image_id": image_id, "caption": one.caption}
        for number, thing in enumerate(one.objects):
            if stage == "ground":
                yield "instances", {"image_id": image_id, **_instance(image_id, number, thing)}
            if stage == "caption" and thing.caption:
                key = {"image_id": image_id, "instance_id": instance_id(image_id, number, thing)}
                yield "captions", {**key, "caption": thing.caption, "flag": thing.flag}


def instance_id(image_id: str, number: int, one: Object) -> str:
    """The id of an object."""
    return digest("instance", image_id, number, one.label, one.box)


def rle(box: Box) -> dict[str, Any]:
    """The mask of a rectangle, in a picture of ``SIZE``."""
    encoded: dict[str, Any] = coco.encode(np.asfortranarray(rectangle(SIZE, box), dtype=np.uint8))
    return encoded


def _instance(image_id: str, number: int, one: Object) -> dict[str, Any]:
    x1, y1, x2, y2 = one.box
    mask = rle(one.mask or one.box)
    return {
        "instance_id": instance_id(image_id, number, one),
        "label": one.label,
        "phrase": one.label,
        "score": one.score,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "area": (x2 - x1) * (y2 - y1),
        "mask_counts": mask["counts"].decode(),
        "mask_height": SIZE[1],
        "mask_width": SIZE[0],
        "mask_area": int(coco.area(mask)),
        "predicted_iou": 1.0,
    }
