"""How well masks fit the objects that were found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from etl.evaluate.boxes import AveragePrecision, Precision
from etl.evaluate.matching import Match
from etl.evaluate.rows import Pair


@dataclass(frozen=True)
class MaskScores:
    """How well masks fit.

    Attributes:
        mean_iou: Mean IoU of the masks of matched instances (see ``etl.evaluate.matching``), None without any. Every
            match counts the same; objects that were not found do not count, nor those whose truth has no mask.
        matched: Matches whose truth has a mask.
        truth: Instances of the truth, in images where each of them has a mask.
        predicted: Instances of the prediction in these images.
        without_mask: Images whose truth has boxes without masks.
        precision: COCO's average precision of masks, over the images without those.
    """

    mean_iou: float | None = None
    matched: int = 0
    truth: int = 0
    predicted: int = 0
    without_mask: int = 0
    precision: Precision = field(default_factory=Precision)


class MaskCounter:
    """Adds up the overlaps of masks."""

    def __init__(self) -> None:
        self._ious: list[float] = []
        self._precision = AveragePrecision("segm")
        self._without_mask = 0

    def add(self, pairs: Sequence[Pair], matches: Sequence[Sequence[Match]]) -> None:
        """Count a range of images and the matches of each; see ``AveragePrecision`` for their order."""
        whole = [pair for pair in pairs if all(one.mask is not None for one in pair.truth.instances)]
        self._without_mask += len(pairs) - len(whole)
        self._precision.add(whole)
        self._ious += [one.mask_iou for many in matches for one in many if one.mask_iou is not None]

    def scores(self, ignored: int = 0) -> MaskScores:
        """The scores of all images counted; ``ignored`` predictions were left out by a class map."""
        precision = self._precision.result(ignored)
        matched = len(self._ious)
        return MaskScores(
            mean_iou=math.fsum(self._ious) / matched if matched else None,
            matched=matched,
            truth=precision.truth,
            predicted=precision.predicted,
            without_mask=self._without_mask,
            precision=precision,
        )
