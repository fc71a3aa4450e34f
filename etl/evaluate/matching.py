"""Which object of the prediction is which of the truth: one to one, by their boxes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from etl.errors import ConfigurationError
from etl.evaluate.rows import Instance

MATCH_IOU = 0.5


@dataclass(frozen=True)
class Match:
    """Two objects that are taken for one and the same.

    Attributes:
        truth: That of the truth.
        predicted: That of the prediction.
        box_iou: IoU of their boxes, ``MATCH_IOU``..1.
        mask_iou: IoU of their masks, 0..1; None where the truth has no mask.
    """

    truth: Instance
    predicted: Instance
    box_iou: float
    mask_iou: float | None


def match(truth: Sequence[Instance], predicted: Sequence[Instance]) -> list[Match]:
    """Match the objects of one image.

    Classes do not count: a box with the wrong label is the same object. Of all ways to pair boxes with an IoU of
    ``MATCH_IOU`` or more, each at most once, it is the one with the highest sum of IoUs (Kuhn 1955, "The Hungarian
    method for the assignment problem"). COCO's evaluation instead goes by score, greedily and within a class.

    Args:
        truth: Objects of the truth, in an order that is always the same.
        predicted: Objects of the prediction, likewise.

    Returns:
        The matches in the order of ``truth``.
    """
    if not truth or not predicted:
        return []
    ious = _overlaps([list(one.box) for one in truth], [list(one.box) for one in predicted])
    rows, columns = _assignment(np.where(ious >= MATCH_IOU, ious, 0.0))
    pairs = [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if ious[r, c] >= MATCH_IOU]
    return [Match(truth[r], predicted[c], float(ious[r, c]), _mask_iou(truth[r], predicted[c])) for r, c in pairs]


def _mask_iou(truth: Instance, predicted: Instance) -> float | None:
    return None if truth.mask is None else float(_overlaps([truth.mask], [predicted.mask])[0, 0])


def _overlaps(one: Sequence[Any], other: Sequence[Any]) -> npt.NDArray[np.float64]:
    """IoU of every object (box xywh as a list, or RLE) with every other one, by COCO's own code."""
    found: npt.NDArray[np.float64] = np.asarray(coco.iou(list(one), list(other), [0] * len(other)))
    return found


def _assignment(weights: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ConfigurationError(
            f"scipy is needed to match boxes: {error}", remedy="pip install 'groundlake[ground]'"
        ) from error
    rows, columns = linear_sum_assignment(weights, maximize=True)
    return rows, columns
