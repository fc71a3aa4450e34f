"""Tags as a detector's prompts, and boxes back to tags: every box gets exactly one of the tags asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from etl.errors import ConfigurationError
from etl.models.tokens import CLS, COMMA, DOT, SEP

Style = Literal["phrases", "joined"]


@dataclass(frozen=True)
class Prompt:
    """One pass of the detector.

    Attributes:
        ids: Token ids, [CLS] and [SEP] included.
        tags: The tags asked for, in order.
        spans: First and last-but-one position of each tag's tokens in ``ids``.
    """

    ids: tuple[int, ...]
    tags: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


def plan_prompts(
    tags: Sequence[str], tokens: Callable[[str], list[int]], max_tokens: int, style: Style = "phrases"
) -> list[Prompt]:
    """As few prompts as hold all tags, each within ``max_tokens``; nothing is ever cut off.

    ``phrases`` makes each tag a phrase of its own (``a . b .``): its tokens see no other tag's. ``joined`` makes one
    phrase of all (``a, b.``), which is what the pipelines this project replaces did.

    Args:
        tags: Tags to look for.
        tokens: Text to token ids, without [CLS] and [SEP].
        max_tokens: Tokens of a prompt, [CLS] and [SEP] included.
        style: How tags are put together.

    Raises:
        ConfigurationError: One tag alone is longer than a prompt may be.
    """
    prompts: list[Prompt] = []
    members: list[tuple[str, list[int]]] = []
    length = 2
    for tag in tags:
        # A separator inside a tag would split it into two phrases.
        words = tokens(tag.replace(".", " ").replace("?", " "))
        if not words:
            continue  # nothing to ask for
        if len(words) + 3 > max_tokens:
            raise ConfigurationError(
                f"tag {tag!r} has {len(words)} tokens; a prompt of this detector holds {max_tokens - 3}",
                remedy="put the tag into exclude_tags of the tagger",
            )
        if length + len(words) + 1 > max_tokens:
            prompts.append(_prompt(members, style))
            members, length = [], 2
        members.append((tag, words))
        length += len(words) + 1
    return [*prompts, _prompt(members, style)] if members else prompts


def _prompt(members: Sequence[tuple[str, list[int]]], style: Style) -> Prompt:
    ids, spans = [CLS], []
    for number, (_, words) in enumerate(members):
        spans.append((len(ids), len(ids) + len(words)))
        last = number == len(members) - 1
        ids += [*words, DOT if last or style == "phrases" else COMMA]
    return Prompt((*ids, SEP), tuple(tag for tag, _ in members), tuple(spans))


@dataclass(frozen=True)
class Match:
    """What the tokens of one box say.

    Attributes:
        score: Highest probability of any tag's token, 0..1.
        tag: The tag whose tokens have the highest mean.
        ids: Tokens above the text threshold that make up the answer; empty when there are none.
    """

    score: float
    tag: str
    ids: tuple[int, ...]


def match_boxes(
    probabilities: npt.NDArray[np.float32], prompt: Prompt, text_threshold: float, style: Style = "phrases"
) -> list[Match]:
    """Map every box to the tag it means.

    Args:
        probabilities: [boxes, tokens of the prompt], 0..1.
        prompt: What was asked.
        text_threshold: Probability above which a token belongs to the answer.
        style: ``phrases`` answers with tokens of the chosen tag, ``joined`` with those of any.
    """
    # Rounded before anything is decided: the last bits differ with the machine and the batch.
    rounded = np.round(probabilities.astype(np.float64), 4)
    means = np.stack([rounded[:, start:stop].mean(axis=1) for start, stop in prompt.spans], axis=1)
    highest = np.stack([rounded[:, start:stop].max(axis=1) for start, stop in prompt.spans], axis=1).max(axis=1)
    chosen = means.argmax(axis=1)
    inside = [position for start, stop in prompt.spans for position in range(start, stop)]
    matches = []
    for row, tag in enumerate(chosen):
        positions = inside if style == "joined" else range(*prompt.spans[tag])
        ids = tuple(prompt.ids[i] for i in positions if rounded[row, i] > text_threshold)
        matches.append(Match(float(highest[row]), prompt.tags[tag], ids))
    return matches
