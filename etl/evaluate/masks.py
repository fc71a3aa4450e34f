"""How well masks fit the objects that were found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from etl.evaluate.boxes import Precision
from etl.evaluate.matching import Match


@dataclass(frozen=True)
class MaskScores:
    """How well masks fit.

    Attributes:
        mean_iou: Mean IoU of the masks of matched instances (see ``etl.evaluate.matching``), None without any. Every
            match counts the same; objects that were not found do not count.
        matched: Matches.
        truth: Instances of the truth.
        predicted: Instances of the prediction.
        precision: COCO's average precision, of masks.
    """

    mean_iou: float | None = None
    matched: int = 0
    truth: int = 0
    predicted: int = 0
    precision: Precision = field(default_factory=Precision)


class MaskCounter:
    """Adds up the overlaps of matched masks."""

    def __init__(self) -> None:
        self._ious: list[float] = []

    def add(self, matches: Sequence[Match]) -> None:
        """Count the matches of one image."""
        self._ious += [one.mask_iou for one in matches]

    def scores(self, precision: Precision) -> MaskScores:
        """The scores of all matches counted."""
        matched = len(self._ious)
        return MaskScores(
            mean_iou=math.fsum(self._ious) / matched if matched else None,
            matched=matched,
            truth=precision.truth,
            predicted=precision.predicted,
            precision=precision,
        )
