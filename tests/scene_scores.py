"""Scores of what the pipeline says against the scenes themselves.

Written apart from ``etl.evaluate``, and from the scenes' own masks rather than from truth in a lake: the two check each
other, and a convention that is wrong on both sides of the pipeline still shows here.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment

from etl.shapes.world.scene import Instance, Scene
from etl.shapes.world.words import COLOUR_NAMES, SHAPES, TEXTURES

# What the issue asks for on held-out scenes, and what a few dozen scenes must reach: their scores scatter.
WANTED = {
    "tag_f1": 0.95, "ap50": 0.90, "ap": 0.65, "mask_iou": 0.85, "caption_exact": 0.90, "sentence_f1": 0.80,
}  # fmt: skip
MARGIN = {"tag_f1": 0.04, "ap50": 0.07, "ap": 0.08, "mask_iou": 0.04, "caption_exact": 0.10, "sentence_f1": 0.06}


@dataclass(frozen=True)
class Thing:
    """One predicted instance: box xyxy in pixels, mask bool [height, width], caption None where it is the label."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: npt.NDArray[np.bool_]
    caption: str | None


@dataclass(frozen=True)
class Seen:
    """What the pipeline says of one scene."""

    tags: frozenset[str] = frozenset()
    things: tuple[Thing, ...] = ()
    sentence: str = ""


def scene_scores(pairs: Sequence[tuple[Scene, Seen]]) -> dict[str, float]:
    """Every score of ``WANTED``, and tag F1 of shapes, colours and textures apart."""
    matched = [match for scene, seen in pairs for match in _matches(scene, seen)]
    captioned = [(truth, thing) for truth, thing in matched if thing.caption is not None]
    ap, ap50 = _average_precision(pairs)
    return {
        "tag_f1": _tag_f1(pairs, None),
        "shapes": _tag_f1(pairs, SHAPES),
        "colours": _tag_f1(pairs, COLOUR_NAMES),
        "textures": _tag_f1(pairs, TEXTURES),
        "ap": ap,
        "ap50": ap50,
        "mask_iou": _mean(_iou(truth.mask, thing.mask) for truth, thing in matched),
        "matched": len(matched) / max(1, sum(len(scene.instances) for scene, _ in pairs)),
        "caption_exact": _mean(thing.caption == truth.phrase for truth, thing in captioned),
        "sentence_f1": _mean(word_f1(seen.sentence, scene.sentence) for scene, seen in pairs),
    }


def too_low(scores: dict[str, float]) -> dict[str, float]:
    """The scores that fall below what is wanted by more than their margin."""
    return {name: scores[name] for name, wanted in WANTED.items() if not scores[name] >= wanted - MARGIN[name]}


def word_f1(said: str, truth: str) -> float:
    """F1 of words, each as often as it is there; commas and colons are no words."""
    one, other = (Counter(word for word in text.split() if word.isalpha()) for text in (said, truth))
    return 2 * (one & other).total() / max(1, one.total() + other.total())


def _tag_f1(pairs: Sequence[tuple[Scene, Seen]], among: Sequence[str] | None) -> float:
    right = said = true = 0
    for scene, seen in pairs:
        predicted = {tag for tag in seen.tags if among is None or tag in among}
        wanted = {tag for tag in scene.tags if among is None or tag in among}
        right, said, true = right + len(predicted & wanted), said + len(predicted), true + len(wanted)
    return 2 * right / max(1, said + true)


def _matches(scene: Scene, seen: Seen) -> list[tuple[Instance, Thing]]:
    """Pairs of box IoU 0.5 or more, one to one, labels aside."""
    if not scene.instances or not seen.things:
        return []
    overlaps = np.array([[_box_iou(one.box, thing.box) for thing in seen.things] for one in scene.instances])
    rows, columns = linear_sum_assignment(-overlaps)
    return [
        (scene.instances[row], seen.things[column])
        for row, column in zip(rows, columns, strict=True)
        if overlaps[row, column] >= 0.5
    ]


def _average_precision(pairs: Sequence[tuple[Scene, Seen]]) -> tuple[float, float]:
    truth, found = [], []
    for image, (scene, seen) in enumerate(pairs, 1):
        for one in scene.instances:
            entry = _entry(image, one.shape, one.box)
            truth.append(entry | {"id": len(truth) + 1, "iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3]})
        found += [_entry(image, thing.label, thing.box) | {"score": thing.score} for thing in seen.things]
    if not found:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(1, len(pairs) + 1)],
            "annotations": truth,
            "categories": [{"id": number, "name": name} for number, name in enumerate(SHAPES, 1)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def _entry(image: int, label: str, box: tuple[float, float, float, float]) -> dict:
    x1, y1, x2, y2 = box
    return {"image_id": image, "category_id": 1 + SHAPES.index(label), "bbox": [x1, y1, x2 - x1, y2 - y1]}


def _box_iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common)


def _iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum())) if one.shape == other.shape else 0.0


def _mean(values: Iterable[float]) -> float:
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else 0.0
