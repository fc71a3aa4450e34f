"""ground: where the tags are, as boxes (GroundingDINO) and masks (SAM), in one pod because they share the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from etl.lake.ids import digest
from etl.models.contracts import Detector, Segmenter, Task
from etl.models.store import ModelStore
from etl.stages.boxes import STEP, Boxes, is_degenerate, suppress, to_pixels
from etl.stages.contract import Result, Row, Stage, StageOptions, WorkItem
from etl.stages.crops import pictures_of
from etl.stages.masks import Rle, encode
from etl.stages.name_files import names_given
from etl.stages.prompts import Prompt, Style, match_boxes, plan_prompts

if TYPE_CHECKING:
    from etl.models.grounding_dino import Raw
    from etl.models.sam import Segments


class GroundOptions(StageOptions):
    """What changes the instances of a picture."""

    box_threshold: float = Field(0.25, ge=0, le=1, description="Best token probability a box must pass")
    text_threshold: float = Field(0.2, ge=0, le=1, description="Probability above which a token is part of the phrase")
    quantile: float | None = Field(
        None, ge=0, lt=1, description="Instead of box_threshold: above this quantile of the picture's own box scores"
    )
    nms_iou: float = Field(0.5, ge=0, le=1, description="Overlap above which the worse of two boxes goes")
    class_agnostic_nms: bool = Field(True, description="Whether boxes of different tags suppress each other")
    max_boxes: int | None = Field(None, ge=1, description="Keep the best only")
    non_object_tags: tuple[str, ...] = Field(
        (), description="Tags that are no objects, such as colours, textures and verbs: never asked for"
    )
    prompt_style: Style = Field(
        "phrases", description="phrases: each tag on its own; joined: one phrase of all, scored and worded as upstream"
    )
    tag_list: tuple[str, ...] | None = Field(
        None,
        description="file:<path of the tagger's list>: prompts name tags in its order, as upstream's do, and last what "
        "it lacks; else in order of name",
    )

    @field_validator("tag_list", mode="before")
    @classmethod
    def _read_tag_list(cls, value: Any) -> Any:
        return names_given(value)

    @model_serializer(mode="wrap")
    def _shortened(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Thousands of tags are recorded by their digest, and not at all where there are none."""
        content: dict[str, Any] = serialise(self)
        names = content.pop("tag_list")
        return content if names is None else {**content, "tag_list_sha256": digest(*names)}


@dataclass(frozen=True)
class Found:
    """The boxes of one picture that stay, best first."""

    boxes: Boxes
    labels: tuple[str, ...]
    phrases: tuple[str, ...]
    scores: tuple[float, ...]


class GroundStage(Stage):
    """Boxes and masks of the tags. The value is the set of instance ids."""

    name: ClassVar[str] = "ground"
    VERSION: ClassVar[int] = 2  # 2: joined prompts score and word as upstream
    upstream: ClassVar[str | None] = "tag"
    reads: ClassVar[tuple[str, ...]] = ("tags",)
    tables: ClassVar[tuple[str, ...]] = ("instances",)
    roles: ClassVar[Mapping[str, Task]] = {"detector": "grounder", "segmenter": "segmenter"}
    Options: ClassVar[type[StageOptions]] = GroundOptions
    mixes_shapes: ClassVar[bool] = True  # the segmenter, most of the work, sees one square whatever the picture
    options: GroundOptions
    detector: Detector
    segmenter: Segmenter

    def load(self, models: ModelStore, device: str) -> None:
        self.detector = self.open("detector", models, device)
        self.segmenter = self.open("segmenter", models, device)

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where each tag of the list first stands in it."""
        return {tag: place for place, tag in reversed(list(enumerate(self.options.tag_list or ())))}

    def skip(self, item: WorkItem) -> Result | None:
        if self._objects(item):
            return None
        return Result("empty", "no_object_tags" if tags_of(item) else "no_tags", value=[])

    def shape(self, width: int, height: int) -> Hashable:
        return self.detector.shape(width, height)

    def process(self, batch: Sequence[WorkItem]) -> list[Result]:
        results: dict[int, Result] = {}
        found: dict[int, Found] = {}
        for index, answer in enumerate(self._detect(batch)):
            if isinstance(answer, Result):
                results[index] = answer
            elif len(answer.boxes):
                found[index] = answer
            else:
                results[index] = Result("empty", "no_boxes", value=[])
        pictures = pictures_of([batch[index] for index in found])
        boxes = [one.boxes.astype(np.float32) for one in found.values()]
        for index, segments in zip(found, self.segmenter.segment(pictures, boxes, len(batch)), strict=True):
            results[index] = _instances(batch[index], found[index], segments)
        return [results[index] for index in range(len(batch))]

    def _detect(self, batch: Sequence[WorkItem]) -> list[Found | Result]:
        """Boxes of every picture, or why there is no answer; a picture with many tags takes several passes."""
        prompts = [self._prompts(item) for item in batch]
        passes = [(index, prompt) for index, many in enumerate(prompts) for prompt in many]
        raw = self._raw(batch, passes)
        answers: list[Found | Result] = []
        for index, item in enumerate(batch):
            own = [(prompt, one) for (owner, prompt), one in zip(passes, raw, strict=True) if owner == index]
            answers.append(self._answer(item, own))
        return answers

    def _raw(self, batch: Sequence[WorkItem], passes: Sequence[tuple[int, Prompt]]) -> list[Raw]:
        """The detector's answer to every pass; only pictures that it sees at one shape go through it together."""
        pictures = pictures_of(batch)
        groups: dict[Hashable, list[int]] = {}
        for number, (index, _) in enumerate(passes):
            groups.setdefault(self.shape(*pictures[index].size), []).append(number)
        raw: dict[int, Raw] = {}
        for members in groups.values():
            own = [passes[number] for number in members]
            found = self.detector.detect(
                [pictures[index] for index, _ in own], [prompt.ids for _, prompt in own], len(batch)
            )
            raw.update(zip(members, found, strict=True))
        return [raw[number] for number in range(len(passes))]

    def _prompts(self, item: WorkItem) -> list[Prompt]:
        if not self.detector.takes(item.width, item.height):
            return []
        return plan_prompts(
            self._objects(item), self.detector.tokens, self.detector.max_text_len, self.options.prompt_style
        )

    def _objects(self, item: WorkItem) -> list[str]:
        tags = [tag for tag in tags_of(item) if tag not in self.options.non_object_tags]
        return sorted(tags, key=lambda tag: self._places.get(tag, len(self._places)))

    def _answer(self, item: WorkItem, passes: Sequence[tuple[Prompt, Raw]]) -> Found | Result:
        if not self.detector.takes(item.width, item.height):
            words = f"{item.width}x{item.height} pixels give the detector fewer cells than it has queries"
            return Result("failed", "too_narrow", error=words)
        if not passes:
            return Result("empty", "no_tags", value=[])
        if not all(np.isfinite(raw.boxes).all() and np.isfinite(raw.probabilities).all() for _, raw in passes):
            return Result("failed", "not_finite", error="the detector gave boxes or scores that are not finite")
        return self.choose(item.width, item.height, passes)

    def choose(self, width: int, height: int, passes: Sequence[tuple[Prompt, Raw]]) -> Found:
        """Boxes of all passes over one picture, above the thresholds and after suppression, best first."""
        options = self.options
        matches = [
            match
            for prompt, raw in passes
            for match in match_boxes(raw.probabilities, prompt, options.text_threshold, options.prompt_style)
        ]
        boxes = np.concatenate([to_pixels(raw.boxes, width, height) for _, raw in passes])
        scores = np.asarray([match.score for match in matches])
        limit = options.box_threshold if options.quantile is None else float(np.quantile(scores, options.quantile))
        # Upstream keeps a box whose phrase is empty, and so does the style that is to compare with it.
        said = [bool(match.ids) or options.prompt_style == "joined" for match in matches]
        good = (scores > limit) & ~is_degenerate(boxes) & np.asarray(said, dtype=np.bool_)
        left = [int(index) for index in np.flatnonzero(good)]
        labels = [matches[index].tag for index in left]
        values = [matches[index].score for index in left]
        kept = suppress(boxes[left], values, labels, options.nms_iou, options.class_agnostic_nms)[: options.max_boxes]
        return Found(
            boxes=boxes[[left[k] for k in kept]],
            labels=tuple(labels[k] for k in kept),
            phrases=tuple(self.detector.text(matches[left[k]].ids) for k in kept),
            scores=tuple(values[k] for k in kept),
        )


def tags_of(item: WorkItem) -> list[str]:
    """The item's tags in order of name, which the value of the stage ``tag`` has too: equal values, equal prompts."""
    return sorted(tag["tag"] for row in item.upstream.get("tags", ()) for tag in row["tags"])


def _instances(item: WorkItem, found: Found, segments: Segments) -> Result:
    if not np.isfinite(segments.ious).all() or not bool(segments.logits.isfinite().all()):
        return Result("failed", "not_finite", error="the segmenter gave masks or scores that are not finite")
    rows: list[Row] = []
    seen: Counter[str] = Counter()
    for index, mask in enumerate(segments.masks()):
        box = [float(value) for value in found.boxes[index]]
        rle = encode(mask)
        key = instance_key(item.image_id, found.labels[index], box, rle)
        rows.append(
            {
                "instance_id": digest(key, seen[key]),
                "label": found.labels[index],
                "phrase": found.phrases[index],
                "score": found.scores[index],
                "x1": box[0],
                "y1": box[1],
                "x2": box[2],
                "y2": box[3],
                "area": (box[2] - box[0]) * (box[3] - box[1]),
                "mask_counts": rle.counts,
                "mask_height": rle.height,
                "mask_width": rle.width,
                "mask_area": rle.area,
                "predicted_iou": round(float(np.clip(segments.ious[index], 0, 1)), 4),
            }
        )
        seen[key] += 1
    return Result("ok", rows={"instances": rows}, value=sorted(row["instance_id"] for row in rows))


def instance_key(image_id: str, label: str, box: Sequence[float], rle: Rle) -> str:
    """What makes two instances equal: image, label, box to 1/8 pixel, mask."""
    return digest(image_id, label, [round(value * STEP) for value in box], [rle.height, rle.width, rle.counts])
