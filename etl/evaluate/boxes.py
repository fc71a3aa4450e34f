"""Average precision of boxes and of masks, by COCO's own evaluation."""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from etl.evaluate.rows import Instance, Pair

Kind = Literal["bbox", "segm"]
_ANY_AREA = [0.0, 1e5**2]  # pixels; "all" in COCO's evaluation
_MAX_DETECTIONS = 100  # per image and class, best scores first
_AT_ONCE = 25  # images: COCOeval looks at every image for every class of a call, so at fewer pairs in vain
_JOINED_AFTER = 64  # calls
_AT_50, _AT_75 = 0, 5  # places of these IoUs among .50, .55, … .95


@dataclass(frozen=True)
class ClassPrecision:
    """Of one class: AP over IoU .50 to .95 and at .50 (None without a truth), and its instances on both sides."""

    ap: float | None
    ap50: float | None
    truth: int
    predicted: int


@dataclass(frozen=True)
class Precision:
    """Average precision as COCO defines it (https://cocodataset.org/#detection-eval).

    The mean, over the classes that the truth names, of the precision interpolated at 101 recalls; at most 100
    detections per image and class count.

    Attributes:
        ap: Mean over IoU thresholds .50, .55, … .95; None when the truth has no instance.
        ap50: At IoU .50.
        ap75: At IoU .75.
        truth: Instances of the truth.
        predicted: Instances of the prediction.
        unknown: Of these, instances of classes that the truth never names: COCO's AP does not see them.
        ignored: Further predicted instances, which the class map ignores.
        classes: By label.
    """

    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    truth: int = 0
    predicted: int = 0
    unknown: int = 0
    ignored: int = 0
    classes: Mapping[str, ClassPrecision] = field(default_factory=dict)


class AveragePrecision:
    """COCO's average precision, fed with a range of images at a time.

    ``COCOeval`` wants all images at once and keeps every annotation. Matching never looks at two images, so here it
    evaluates a few at a time, and only what ``accumulate`` reads is kept of them: score and matches per detection, some
    thirty bytes. The numbers are those of one evaluation over all images.

    Args:
        kind: ``bbox`` for boxes, ``segm`` for masks.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._truth: Counter[str] = Counter()
        self._predicted: Counter[str] = Counter()
        self._found: dict[str, list[Mapping[str, npt.NDArray[Any]]]] = {}

    def add(self, pairs: Sequence[Pair]) -> None:
        """Evaluate a range of images. Detections of equal score count in the order they are added."""
        self._truth.update(one.label for pair in pairs for one in pair.truth.instances)
        self._predicted.update(one.label for pair in pairs for one in pair.predicted.instances)
        for start in range(0, len(pairs), _AT_ONCE):
            self._evaluate(pairs[start : start + _AT_ONCE])

    def _evaluate(self, pairs: Sequence[Pair]) -> None:
        labels = sorted({one.label for pair in pairs for one in (*pair.truth.instances, *pair.predicted.instances)})
        if not labels:
            return
        numbers = {label: number for number, label in enumerate(labels, 1)}
        truth = [_entries(pair.truth.instances, image, numbers) for image, pair in enumerate(pairs)]
        predicted = [_entries(pair.predicted.instances, image, numbers) for image, pair in enumerate(pairs)]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation: Any = COCOeval(_dataset(pairs, truth, labels), _dataset(pairs, predicted, labels), self._kind)
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [_ANY_AREA], ["all"]
            evaluation.params.maxDets = [_MAX_DETECTIONS]
            evaluation.evaluate()
        for number, label in enumerate(labels):
            per_image = evaluation.evalImgs[number * len(pairs) : (number + 1) * len(pairs)]
            found = self._found.setdefault(label, [])
            found.append(_kept([one for one in per_image if one is not None]))
            if len(found) > _JOINED_AFTER:
                found[:] = [_joined(found)]

    def result(self, ignored: int = 0) -> Precision:
        """The precision over all images that were added."""
        curves = {label: self._curve(label) for label in sorted(self._found) if self._truth[label]}
        over = np.stack(list(curves.values()), axis=-1) if curves else np.zeros((10, 101, 0))
        labels = sorted({*self._truth, *self._predicted})
        return Precision(
            ap=_mean(over),
            ap50=_mean(over[_AT_50]),
            ap75=_mean(over[_AT_75]),
            truth=self._truth.total(),
            predicted=self._predicted.total(),
            unknown=sum(n for label, n in self._predicted.items() if not self._truth[label]),
            ignored=ignored,
            classes={label: self._of_class(label, curves.get(label)) for label in labels},
        )

    def _of_class(self, label: str, curve: npt.NDArray[np.float64] | None) -> ClassPrecision:
        scores = (None, None) if curve is None else (_mean(curve), _mean(curve[_AT_50]))
        return ClassPrecision(*scores, truth=self._truth[label], predicted=self._predicted[label])

    def _curve(self, label: str) -> npt.NDArray[np.float64]:
        """Precision of one class, ``[IoU thresholds, recalls]``."""
        whole = _joined(self._found[label])
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation: Any = COCOeval(iouType=self._kind)
            params = evaluation.params
            params.imgIds, params.catIds = [0], [0]
            params.areaRng, params.areaRngLbl = [_ANY_AREA], ["all"]
            params.maxDets = [sys.maxsize]  # every image was cut to its own limit when it was evaluated
            evaluation.evalImgs, evaluation._paramsEval = [whole], params
            evaluation.accumulate()
        curve: npt.NDArray[np.float64] = evaluation.eval["precision"][:, :, 0, 0, 0]
        return curve


def _dataset(pairs: Sequence[Pair], entries: Sequence[Sequence[dict[str, Any]]], labels: Sequence[str]) -> COCO:
    annotations = [entry for of_image in entries for entry in of_image]
    for number, entry in enumerate(annotations, 1):  # 0 would mean unmatched
        entry["id"] = number
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image, "width": pair.width, "height": pair.height} for image, pair in enumerate(pairs)],
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, 1)],
    }
    coco.createIndex()
    return coco


def _entries(instances: Sequence[Instance], image: int, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": numbers[one.label], "bbox": list(one.box), "segmentation": one.mask}
        | {"area": one.box[2] * one.box[3], "iscrowd": 0, "score": one.score}
        for one in instances
    ]


def _kept(per_image: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """What ``accumulate`` reads of some images, joined as it joins them."""
    return {
        "dtScores": np.concatenate([np.asarray(one["dtScores"], np.float64) for one in per_image]),
        "dtMatches": np.concatenate([one["dtMatches"] > 0 for one in per_image], axis=1),
        "dtIgnore": np.concatenate([np.asarray(one["dtIgnore"], bool) for one in per_image], axis=1),
        "gtIgnore": np.concatenate([np.asarray(one["gtIgnore"], bool) for one in per_image]),
    }


def _joined(ranges: Sequence[Mapping[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    return {key: np.concatenate([one[key] for one in ranges], axis=-1) for key in ranges[0]}


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    """The mean of a curve; rounded, because ``accumulate`` makes 1 - 2e-16 of a perfect score."""
    return round(float(np.mean(values)), 12) if values.size else None
