"""Average precision of boxes, by COCO's own evaluation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from etl.shapes.train.pool import Sample
from etl.shapes.world.words import SHAPES

NMS_IOU, KEPT = 0.5, 40


@dataclass(frozen=True)
class Found:
    """What was found in a scene: boxes [n, 4] xyxy in pixels, scores [n], indices of shapes [n]."""

    sample: Sample
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def average_precision(found: Sequence[Found]) -> tuple[float, float]:
    """AP (IoU .5 to .95) and AP50 after class-agnostic suppression, as the pipeline does it."""
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, one in enumerate(found):
        for (shape, _, _), (x1, y1, x2, y2) in zip(one.sample.kinds, one.sample.boxes.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            truth.append(_entry(len(truth) + 1, image, int(shape), box) | {"iscrowd": 0, "area": box[2] * box[3]})
        for number in _suppress(one):
            x1, y1, x2, y2 = one.boxes[number].tolist()
            entry = _entry(0, image, int(one.labels[number]), [x1, y1, x2 - x1, y2 - y1])
            results.append(entry | {"score": float(one.scores[number])})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(len(found))],
            "annotations": truth,
            "categories": [{"id": n, "name": name} for n, name in enumerate(SHAPES)],
        }
        coco.createIndex()
        evaluation: Any = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return round(float(evaluation.stats[0]), 4), round(float(evaluation.stats[1]), 4)


def _entry(number: int, image: int, shape: int, box: list[float]) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": shape, "bbox": box}


def _suppress(one: Found) -> list[int]:
    order, kept = [int(n) for n in np.argsort(-one.scores, kind="stable")], list[int]()
    while order and len(kept) < KEPT:
        best = order.pop(0)
        kept.append(best)
        order = [other for other in order if _iou(one.boxes[best], one.boxes[other]) <= NMS_IOU]
    return kept


def _iou(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return float(width * height / (areas - width * height))
