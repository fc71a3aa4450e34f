"""The answers of our own engine to the question that upstream is asked, from the same checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from etl.errors import UnknownNameError
from etl.models.families import open_network
from etl.models.tokens import CLS, SEP
from etl.reference.proposals import choosing
from etl.reference.questions import Answer, Question

CAPTION_BEAMS, CAPTION_TOKENS = 3, 46  # of upstream's inference_tag2text: 50 tokens, four of them the prompt's


def our_answers(family: str, folder: Path, question: Question, theirs: Sequence[Answer]) -> list[Answer]:
    """Our answer per picture, float32 on the CPU: arrays by the names that upstream's have.

    Args:
        family: The family.
        folder: The converted checkpoint.
        question: What is asked.
        theirs: Upstream's answers; a grounder goes on with the proposals that upstream chose.

    Raises:
        UnknownNameError: The family has no reference engine.
        ConfigurationError: The folder is wrong or not whole.
    """
    if family not in _ASK:
        raise UnknownNameError("family with a reference engine", family, list(_ASK))
    return _ASK[family](family, folder, question, theirs)


def _segments(family: str, folder: Path, question: Question, _: Sequence[Answer]) -> list[Answer]:
    network = open_network(family, "segmenter", folder, "cpu", "float32")
    found = network.segment(question.pictures, question.boxes, len(question.pictures))
    return [{"logits": one.logits.numpy(), "ious": one.ious, "masks": np.stack(list(one.masks()))} for one in found]


def _boxes(family: str, folder: Path, question: Question, theirs: Sequence[Answer]) -> list[Answer]:

    network = open_network(family, "grounder", folder, "cpu", "float32")
    answers: list[Answer] = []
    for picture, prompt, their in zip(question.pictures, question.prompts, theirs, strict=True):
        ids = [CLS, *network.tokens(prompt), SEP]
        with choosing(network.network, their["chosen"]) as choice:
            (raw,) = network.detect([picture], [ids], 1)
        made: Answer = {"proposals": choice.scores, "chosen": choice.chosen, "ids": np.asarray(ids)}
        answers.append({"boxes": raw.boxes, "probabilities": raw.probabilities, **made})
    return answers


def _tags(family: str, folder: Path, question: Question, _: Sequence[Answer]) -> list[Answer]:
    network = open_network(family, "tagger", folder, "cpu", "float32")
    names, thresholds = np.asarray(network.tags), network.thresholds
    answers: list[Answer] = []
    for scores in network.scores(question.pictures):
        # Upstream's own rule: it neither rounds scores nor has float64 thresholds.
        tags = names[scores > thresholds.astype(np.float32)]
        answers.append({"scores": scores, "tags": tags, "names": names, "thresholds": thresholds})
    if question.captions:
        captioner = open_network(family, "captioner", folder, "cpu", "float32")
        told = captioner.captions(question.pictures, batch_size=1, beams=CAPTION_BEAMS, max_new_tokens=CAPTION_TOKENS)
        answers = [{**one, "caption": np.asarray(caption.text)} for one, caption in zip(answers, told, strict=True)]
    return answers


_ASK: dict[str, Callable[[str, Path, Question, Sequence[Answer]], list[Answer]]] = {
    "sam": _segments,
    "sam-hq": _segments,
    "groundingdino": _boxes,
    "ram": _tags,
    "ram-plus": _tags,
    "tag2text": _tags,
}
