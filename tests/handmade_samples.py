"""Training samples made by hand: rectangles of known kinds, for tests of losses and scores."""

from __future__ import annotations

import numpy as np

from etl.shapes.train.pool import Sample

Box = tuple[int, int, int, int]


def sample(*instances: tuple[tuple[int, int, int], Box], width: int = 100, height: int = 80) -> Sample:
    """A sample whose instances (kind and xyxy box in pixels) fill their boxes; later ones lie over earlier ones."""
    owners = np.zeros((height, width), np.uint8)
    for number, (_, (x1, y1, x2, y2)) in enumerate(instances, start=1):
        owners[y1:y2, x1:x2] = number
    kinds = np.asarray([kind for kind, _ in instances], np.int64).reshape(-1, 3)
    return Sample(np.repeat(owners[..., None] * np.uint8(40), 3, axis=2), owners, kinds)
