"""Which images went worst: one number per image, for choosing pictures to look at; no score of the whole uses it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from etl.evaluate.matching import Match
from etl.evaluate.rows import Pair
from etl.evaluate.tags import agreement

KEPT = 60


@dataclass(frozen=True)
class ImageScore:
    """How well one image went, 0..1 each; None for what it does not count for.

    Attributes:
        image_id: The image.
        tags: F1 of its tags.
        instances: Panoptic quality of its instances (Kirillov et al. 2019), with the matches of
            ``etl.evaluate.matching``: the sum of the mask IoUs of matches with the right label (of their boxes where
            the truth has no mask), over the mean of the numbers of instances on both sides.
        captions: Mean F1 of the words of its captions.
    """

    image_id: str
    tags: float | None = None
    instances: float | None = None
    captions: float | None = None

    @property
    def score(self) -> float:
        """The mean of the three."""
        values = [one for one in (self.tags, self.instances, self.captions) if one is not None]
        return sum(values) / len(values) if values else 1.0


def image_score(pair: Pair, matches: Sequence[Match], captions: Sequence[float]) -> ImageScore:
    """The score of an image from its matches and the F1 of each of its captions; 1 where neither side says anything."""
    tags = instances = None
    if "tag" in pair.stages:
        f1 = agreement(pair.truth.tags, pair.predicted.tags).f1
        tags = 1.0 if f1 is None else f1
    if "ground" in pair.stages:
        right = sum(_overlap(one) for one in matches if one.truth.label == one.predicted.label)
        total = len(pair.truth.instances) + len(pair.predicted.instances)
        instances = 2 * right / total if total else 1.0
    return ImageScore(pair.image_id, tags, instances, sum(captions) / len(captions) if captions else None)


def _overlap(one: Match) -> float:
    return one.box_iou if one.mask_iou is None else one.mask_iou


def worst(scores: Iterable[ImageScore]) -> tuple[ImageScore, ...]:
    """The ``KEPT`` lowest scores, lowest first; of equal ones those with the lower id."""
    return tuple(heapq.nsmallest(KEPT, scores, key=lambda one: (one.score, one.image_id)))
