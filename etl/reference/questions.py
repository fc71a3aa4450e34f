"""What both engines are asked, and upstream's answer to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from etl.reference.environment import run_worker

Answer = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Question:
    """Pictures, and what is asked of each.

    Attributes:
        pictures: RGB pictures.
        boxes: For a segmenter: per picture float32 [boxes, 4], xyxy in its pixels.
        prompts: For a grounder: one per picture, phrases that end in " .".
        sides: For a grounder: the shorter side after resizing and the most that the longer one may have; None for
            upstream's own.
    """

    pictures: Sequence[Image.Image]
    boxes: Sequence[npt.NDArray[np.float32]] = ()
    prompts: Sequence[str] = ()
    sides: tuple[int, int] | None = None


@dataclass(frozen=True)
class Weights:
    """Whose weights both engines have.

    Attributes:
        checkpoint: Upstream's file; written by the reference engine when ``sizes`` are given.
        text: Folder of the text encoder's ``config.json`` and tokenizer, of a grounder.
        sizes: Sizes of a network to be made with random weights, or None to load the checkpoint.
        seed: Of the random weights.
    """

    checkpoint: Path
    text: Path | None = None
    sizes: Mapping[str, Any] | None = None
    seed: int = 0


def upstream_answers(family: str, weights: Weights, question: Question, folder: Path) -> list[Answer]:
    """Upstream's answer per picture: arrays by name.

    Args:
        family: Whose package is asked.
        weights: Its weights.
        question: What it is asked.
        folder: An existing folder for the files that go to and fro.

    Raises:
        ConfigurationError: There is no reference environment, or upstream's code failed.
    """
    job = {
        "family": family,
        "pictures": len(question.pictures),
        "boxes": [np.asarray(own).tolist() for own in question.boxes],
        "prompts": list(question.prompts),
        "sides": None if question.sides is None else {"sizes": [question.sides[0]], "max_size": question.sides[1]},
        "checkpoint": str(weights.checkpoint),
        "text": None if weights.text is None else str(weights.text),
        "sizes": None if weights.sizes is None else dict(weights.sizes),
        "seed": weights.seed,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    pictures: Any = {f"picture{index}": np.asarray(picture) for index, picture in enumerate(question.pictures)}
    np.savez(folder / "pictures.npz", **pictures)
    run_worker(folder)
    answers: list[Answer] = [{} for _ in question.pictures]
    with np.load(folder / "answer.npz", allow_pickle=False) as file:
        for key in file.files:
            name = key.rstrip("0123456789")
            answers[int(key[len(name) :])][name] = file[key]
    return answers
