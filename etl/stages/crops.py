"""Pictures of work items, and crops of instances for the captioner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from etl.stages.contract import WorkItem

MIN_AREA = 32 * 32  # pixels; a smaller crop shows a captioner nothing


def crop_box(instance: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """The instance's box in whole pixels, cut off as the pipelines this project replaces did.

    >>> crop_box({"x1": 1.9, "y1": 0.0, "x2": 40.9, "y2": 33.5})
    (1, 0, 40, 33)
    """
    return int(instance["x1"]), int(instance["y1"]), int(instance["x2"]), int(instance["y2"])


def is_large_enough(box: tuple[int, int, int, int]) -> bool:
    """Whether a crop is worth a caption: its area is 32 x 32 pixels or more, and no side is empty."""
    width, height = box[2] - box[0], box[3] - box[1]
    return width > 0 and height > 0 and width * height >= MIN_AREA


def pictures_of(items: Sequence[WorkItem]) -> list[Image.Image]:
    """The pictures of items; raises ValueError when the runner gave none, which is a bug."""
    pictures = [item.picture for item in items if item.picture is not None]
    if len(pictures) != len(items):
        raise ValueError(f"{len(items) - len(pictures)} of {len(items)} work items have no picture")
    return pictures
