"""Both engines on the same weights and pictures, and how far their answers are apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etl.models.checkpoints import convert
from etl.reference.ours import our_answers
from etl.reference.questions import Answer, Question, Weights, upstream_answers

BOX_THRESHOLD, TEXT_THRESHOLD = 0.35, 0.25  # those of groundingdino's own demo


@dataclass(frozen=True)
class Difference:
    """How far two engines are apart in one kind of number.

    Attributes:
        name: What is compared: ``logits``, ``ious``, ``boxes`` or ``probabilities``.
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
    """

    family: str
    pictures: int
    differences: tuple[Difference, ...]
    mask_pixels: int | None = None
    mask_pixels_apart: int = 0
    mask_margin: float = 0.0
    labels: int | None = None
    labels_apart: tuple[str, ...] = ()


def parity(family: str, weights: Weights, question: Question, work: Path, beside: Mapping[str, Path]) -> Parity:
    """Ask upstream and us the same, and compare.

    Args:
        family: The family.
        weights: Upstream's checkpoint, or what a small random one is made from.
        question: What both are asked.
        work: An empty folder for the files in between and the converted checkpoint.
        beside: Files that belong to the checkpoint (tokenizer, tag lists), by upstream's names.

    Raises:
        ConfigurationError: There is no reference environment, or upstream's code failed.
        CheckpointError: Our converter refuses the checkpoint.
    """
    theirs = upstream_answers(family, weights, question, work)
    folder = work / "converted"
    folder.mkdir()
    convert(family, {weights.checkpoint.name: weights.checkpoint, **beside}, folder)
    if question.sides is not None:
        _set_sides(folder / "preprocessor_config.json", question.sides)
    return compare(family, theirs, our_answers(family, folder, question))


def compare(family: str, theirs: Sequence[Answer], ours: Sequence[Answer]) -> Parity:
    """How far two engines' answers to the same pictures are apart; raises ValueError when their shapes differ."""
    names = [name for name in ours[0] if name not in ("masks", "ids")]
    differences = tuple(_difference(name, theirs, ours) for name in names)
    if "masks" in ours[0]:
        full = [one["full"] for one in theirs]
        apart = np.concatenate([f[(f > 0) != o["masks"]] for f, o in zip(full, ours, strict=True)])
        largest = max(float(np.abs(one).max(initial=0.0)) for one in full)
        margin = float(np.abs(apart).max(initial=0.0)) / (largest or 1.0)
        return Parity(family, len(ours), differences, sum(one.size for one in full), len(apart), margin)
    if "ids" not in ours[0]:
        return Parity(family, len(ours), differences)
    count, labels_apart = 0, []
    for picture, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        upstream, own = labels(one), labels(other)
        count += len(upstream | own)
        labels_apart += [f"picture {picture}: {label} upstream only" for label in sorted(upstream - own)]
        labels_apart += [f"picture {picture}: {label} ours only" for label in sorted(own - upstream)]
    return Parity(family, len(ours), differences, labels=count, labels_apart=tuple(labels_apart))


def labels(answer: Answer) -> set[tuple[int, tuple[int, ...]]]:
    """The detections of a grounder's answer: number of the query, and the token ids that it is labelled with."""
    found = set()
    for query, row in enumerate(answer["probabilities"]):
        if row.max() > BOX_THRESHOLD:
            found.add((query, tuple(int(one) for one in answer["ids"][row > TEXT_THRESHOLD])))
    return found


def _difference(name: str, theirs: Sequence[Answer], ours: Sequence[Answer]) -> Difference:
    largest = size = 0.0
    for picture, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        if one[name].shape != other[name].shape:
            raise ValueError(f"{name} of picture {picture}: {one[name].shape} upstream, {other[name].shape} ours")
        upstream = one[name].astype(np.float64)
        largest = max(largest, float(np.abs(upstream - other[name]).max(initial=0.0)))
        size = max(size, float(np.abs(upstream).max(initial=0.0)))
    return Difference(name, largest, largest / size if size else largest)


def _set_sides(path: Path, sides: tuple[int, int]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content["size"] = {"shortest_edge": sides[0], "longest_edge": sides[1]}
    path.write_text(json.dumps(content), encoding="utf-8")
