"""How far the answers of two engines to the same pictures are apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from etl.errors import DataError
from etl.reference.questions import Answer

BOX_THRESHOLD, TEXT_THRESHOLD = 0.35, 0.25  # those of groundingdino's own demo
NUMBERS = ("logits", "ious", "proposals", "boxes", "probabilities", "scores")


@dataclass(frozen=True)
class Difference:
    """How far two engines are apart in one kind of number.

    Attributes:
        name: What is compared, one of ``NUMBERS``; ``proposals`` are a detector's scores of its feature cells.
        largest: The largest difference.
        relative: The same as a share of upstream's largest number; 0.0 when both have none but zeros.
    """

    name: str
    largest: float
    relative: float


@dataclass(frozen=True)
class Parity:
    """What came of a comparison.

    Attributes:
        family: The family.
        pictures: How many pictures both saw.
        differences: Per kind of number the worst of all pictures.
        mask_pixels: Pixels of masks, all boxes together; None where there are no masks.
        mask_pixels_apart: How many of them differ.
        mask_margin: How far from 0 upstream's logit of such a pixel is at most, as a share of its largest logit: two
            engines that round differently differ where it is nothing but rounding.
        labels: Labels that either engine gave; None where there are none.
        labels_apart: Those that only one gave, as ``picture 0: 'red circle' upstream only``.
        label_margin: How far from its threshold upstream's score of such a label is at most.
        proposals: Feature cells that a detector goes on with; None where there are none.
        proposals_apart: Places among them at which the engines would have chosen another cell. What follows is
            compared for upstream's choice.
        proposal_margin: How far upstream's scores of such two cells are apart at most, as a share of its largest.
        captions: Captions that both gave; None where none were asked for.
        captions_apart: Those that differ, as ``picture 0: 'a star' upstream, 'a square' ours``.
    """

    family: str
    pictures: int
    differences: tuple[Difference, ...]
    mask_pixels: int | None = None
    mask_pixels_apart: int = 0
    mask_margin: float = 0.0
    labels: int | None = None
    labels_apart: tuple[str, ...] = ()
    label_margin: float = 0.0
    proposals: int | None = None
    proposals_apart: int = 0
    proposal_margin: float = 0.0
    captions: int | None = None
    captions_apart: tuple[str, ...] = ()

    def beyond(self, limit: float) -> list[str]:
        """What is farther apart than ``limit``, in words; nothing when the engines agree."""
        found = [f"{one.name} differ by {one.relative:.2g}" for one in self.differences if not one.relative <= limit]
        if self.mask_margin > limit:
            found.append(f"mask pixels differ whose logits are {self.mask_margin:.2g} from 0")
        if self.label_margin > limit:
            found.append(f"labels differ whose scores are {self.label_margin:.2g} from their threshold")
        if self.proposal_margin > limit:
            found.append(f"proposals are chosen whose scores are {self.proposal_margin:.2g} apart")
        if self.captions_apart:
            found.append(f"{len(self.captions_apart)} captions differ")
        return found


def compare(family: str, theirs: Sequence[Answer], ours: Sequence[Answer]) -> Parity:
    """How far two engines' answers to the same pictures are apart; raises DataError when their shapes differ."""
    differences = tuple(_difference(name, theirs, ours) for name in NUMBERS if name in ours[0])
    pairs = list(zip(theirs, ours, strict=True))
    if "masks" in ours[0]:
        return Parity(family, len(ours), differences, *_masks(theirs, ours))
    if "ids" in ours[0]:
        apart = _labels(pairs, labels, _label_margin)
        return Parity(family, len(ours), differences, None, 0, 0.0, *apart, *_proposals(pairs))
    if "tags" in ours[0]:
        said = len(ours) if "caption" in ours[0] else None
        apart = _labels(pairs, tags, _tag_margin)
        return replace(
            Parity(family, len(ours), differences, None, 0, 0.0, *apart), captions=said, captions_apart=_captions(pairs)
        )
    return Parity(family, len(ours), differences)


def labels(answer: Answer) -> Counter[str]:
    """The detections of a grounder's answer: number of the query, and the token ids that it is labelled with."""
    found: Counter[str] = Counter()
    for query, row in enumerate(answer["probabilities"]):
        if row.max() > BOX_THRESHOLD:
            ids = ", ".join(str(one) for one in answer["ids"][row > TEXT_THRESHOLD])
            found[f"box {query} with tokens {ids}"] += 1
    return found


def tags(answer: Answer) -> Counter[str]:
    """The tags of a tagger's answer; a name may be there twice, as noun and as verb."""
    return Counter(repr(str(tag)) for tag in answer["tags"])


def _masks(theirs: Sequence[Answer], ours: Sequence[Answer]) -> tuple[int, int, float]:
    full = [one["full"] for one in theirs]
    apart = np.concatenate([f[(f > 0) != o["masks"]] for f, o in zip(full, ours, strict=True)])
    largest = max(float(np.abs(one).max(initial=0.0)) for one in full)
    margin = float(np.abs(apart).max(initial=0.0)) / (largest or 1.0)
    return sum(one.size for one in full), len(apart), margin


def _labels(
    pairs: Sequence[tuple[Answer, Answer]],
    read: Callable[[Answer], Counter[str]],
    margin: Callable[[Answer, Answer], float],
) -> tuple[int, tuple[str, ...], float]:
    count, apart, farthest = 0, [], 0.0
    for picture, (one, other) in enumerate(pairs):
        upstream, own = read(one), read(other)
        count += (upstream | own).total()
        apart += [f"picture {picture}: {label} upstream only" for label in sorted((upstream - own).elements())]
        apart += [f"picture {picture}: {label} ours only" for label in sorted((own - upstream).elements())]
        if upstream != own:
            farthest = max(farthest, margin(one, other))
    return count, tuple(apart), farthest


def _proposals(pairs: Sequence[tuple[Answer, Answer]]) -> tuple[int, int, float]:
    count, apart, farthest = 0, 0, 0.0
    for theirs, ours in pairs:
        scores = theirs["proposals"].astype(np.float64)
        other = theirs["chosen"] != ours["chosen"]
        margins = np.abs(scores[theirs["chosen"]] - scores[ours["chosen"]])[other]
        count, apart = count + len(other), apart + int(other.sum())
        farthest = max(farthest, float(margins.max(initial=0.0)) / (float(np.abs(scores).max()) or 1.0))
    return count, apart, farthest


def _label_margin(theirs: Answer, ours: Answer) -> float:
    """How far upstream is from the decisions that differ; 1.0 when the prompts have other tokens."""
    if not np.array_equal(theirs["ids"], ours["ids"]):
        return 1.0
    upstream, own = (one["probabilities"].astype(np.float64) for one in (theirs, ours))
    best, kept = upstream.max(axis=1), (upstream.max(axis=1) > BOX_THRESHOLD, own.max(axis=1) > BOX_THRESHOLD)
    boxes = np.abs(best - BOX_THRESHOLD)[kept[0] != kept[1]]
    differ = ((upstream > TEXT_THRESHOLD) != (own > TEXT_THRESHOLD)) & (kept[0] & kept[1])[:, None]
    return float(np.concatenate([boxes, np.abs(upstream - TEXT_THRESHOLD)[differ]]).max(initial=0.0))


def _tag_margin(theirs: Answer, ours: Answer) -> float:
    """How far upstream's scores of the tags that differ are from their thresholds."""
    apart = {str(tag) for tag in np.setxor1d(theirs["tags"], ours["tags"])}
    apart |= {str(name) for name in ours["names"] if np.sum(theirs["tags"] == name) != np.sum(ours["tags"] == name)}
    scores = theirs["scores"].astype(np.float64)
    named = np.asarray([str(name) in apart for name in ours["names"]])
    chosen = named & ((scores > ours["thresholds"]) != (ours["scores"] > ours["thresholds"]))
    if not chosen.any():
        return 1.0  # the same scores, and yet other tags: the lists or the thresholds differ
    return float(np.abs(scores - ours["thresholds"])[chosen].max(initial=0.0))


def _captions(pairs: Sequence[tuple[Answer, Answer]]) -> tuple[str, ...]:
    apart = []
    for picture, (one, other) in enumerate(pairs):
        if "caption" in other:
            upstream, own = (" ".join(str(side["caption"]).split()) for side in (one, other))
            apart += [f"picture {picture}: {upstream!r} upstream, {own!r} ours"] if upstream != own else []
    return tuple(apart)


def _difference(name: str, theirs: Sequence[Answer], ours: Sequence[Answer]) -> Difference:
    apart, sizes = [0.0], [0.0]
    for picture, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        if one[name].shape != other[name].shape:
            raise DataError(
                f"{name} of picture {picture} have the shape {one[name].shape} upstream, {other[name].shape} ours",
                remedy="give both engines the weights of one network",
            )
        upstream = one[name].astype(np.float64)
        apart.append(float(np.abs(upstream - other[name]).max(initial=0.0)))
        sizes.append(float(np.abs(upstream).max(initial=0.0)))
    # numpy's maximum, unlike Python's, keeps what is not a number.
    largest, size = float(np.max(apart)), float(np.max(sizes))
    return Difference(name, largest, largest / size if size else largest)
