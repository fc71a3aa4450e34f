"""What both engines are asked, and upstream's answer to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from etl.reference.process import Worker

Answer = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Question:
    """Pictures, and what is asked of each.

    Attributes:
        pictures: RGB pictures.
        boxes: For a segmenter: per picture float32 [boxes, 4], xyxy in its pixels.
        prompts: For a grounder: one per picture, phrases that end in " .".
        captions: For Tag2Text: whether its captions are asked for too.
    """

    pictures: Sequence[Image.Image]
    boxes: Sequence[npt.NDArray[np.float32]] = ()
    prompts: Sequence[str] = ()
    captions: bool = False


def upstream_answers(family: str, folder: Path, question: Question) -> list[Answer]:
    """Upstream's answer per picture: arrays by name. It computes with one thread on the CPU.

    Args:
        family: Whose package is asked.
        folder: Upstream's files: see ``etl.reference.folders``.
        question: What it is asked.

    Raises:
        ConfigurationError: There is no reference environment, or it cannot read the folder.
        UpstreamError: Upstream's code failed.
        WorkerLostError: The worker died.
    """
    with Worker() as worker:
        worker.open(family, folder)
        return [worker.ask(arrays, **words) for arrays, words in _asked(question)]


def _asked(question: Question) -> Iterator[tuple[Answer, dict[str, Any]]]:
    for index, picture in enumerate(question.pictures):
        arrays: Answer = {"picture": np.asarray(picture.convert("RGB"))}
        words: dict[str, Any] = {}
        if question.boxes:
            arrays["boxes"] = np.asarray(question.boxes[index], np.float64)
            words["full"] = True
        if question.prompts:
            words |= {"prompt": question.prompts[index], "proposals": True}
        if question.captions:
            words["caption"] = True
        yield arrays, words
