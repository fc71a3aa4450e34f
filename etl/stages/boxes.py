"""Boxes in numpy: conversion, clipping, suppression. xyxy in pixels, origin top left, unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]
STEP = 8  # boxes are kept to 1/8 pixel, the grid that instance ids are made on
MIN_SIDE = 1.0  # pixels; below it a box is degenerate


def to_pixels(boxes: npt.NDArray[np.float32], width: int, height: int) -> Boxes:
    """Centre, width and height as shares of the picture to xyxy pixels, clipped to it, rounded to 1/8 pixel.

    >>> to_pixels(np.array([[0.5, 0.5, 0.5, 1.5]], np.float32), 200, 100).tolist()
    [[50.0, 0.0, 150.0, 100.0]]
    """
    x, y, w, h = boxes.astype(np.float64).T
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1) * [width, height, width, height]
    clipped = np.clip(corners, 0, [width, height, width, height])
    return np.asarray(np.round(clipped * STEP) / STEP, dtype=np.float64)


def is_degenerate(boxes: Boxes) -> npt.NDArray[np.bool_]:
    """Which boxes have a side below one pixel."""
    return np.asarray(np.any(boxes[:, 2:] - boxes[:, :2] < MIN_SIDE, axis=1), dtype=np.bool_)


def iou(box: npt.NDArray[np.float64], others: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of one box with each of ``others``."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    own = (box[2:] - box[:2]).prod()
    return np.asarray(common / np.maximum(own + areas - common, 1e-12), dtype=np.float64)


def suppress(
    boxes: Boxes, scores: Sequence[float], labels: Sequence[str], limit: float, class_agnostic: bool
) -> list[int]:
    """Non-maximum suppression: indices of the boxes that stay, best first; of equal scores the earlier one.

    Args:
        boxes: [n, 4].
        scores: Score per box.
        labels: Label per box.
        limit: A box goes when its IoU with a better one that stays is above this.
        class_agnostic: Whether boxes of different labels suppress each other.
    """
    order = sorted(range(len(boxes)), key=lambda index: (-scores[index], index))
    kept: list[int] = []
    for index in order:
        rivals = [other for other in kept if class_agnostic or labels[other] == labels[index]]
        if not rivals or iou(boxes[index], boxes[rivals]).max() <= limit:
            kept.append(index)
    return kept
