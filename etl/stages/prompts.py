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
JOINED_END = 255  # upstream never takes a later token into a phrase, nor the first


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
    phrase of all (``a, b.``), token for token what the pipelines this project replaces asked of the same tags in the
    same order; but where they cut off what is beyond ``max_tokens``, there is one more prompt here.

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
        words = tokens(_one_phrase(tag) if style == "phrases" else tag)
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


def _one_phrase(tag: str) -> str:
    """The tag without what would split it into two phrases."""
    return tag.replace(".", " ").replace("?", " ")


def _prompt(members: Sequence[tuple[str, list[int]]], style: Style) -> Prompt:
    ids, spans = [CLS], []
    for _, words in members:
        spans.append((len(ids), len(ids) + len(words)))
        ids += [*words, DOT if style == "phrases" else COMMA]
    if style == "joined":
        # Upstream ends a prompt with a full stop unless its last tag does.
        ids[-1:] = [] if ids[-2] == DOT else [DOT]
    return Prompt((*ids, SEP), tuple(tag for tag, _ in members), tuple(spans))


@dataclass(frozen=True)
class Match:
    """What the tokens of one box say.

    Attributes:
        score: Highest probability of any token that counts, 0..1.
        tag: The tag whose tokens have the highest mean.
        ids: Tokens above the text threshold that make up the answer; there may be none.
    """

    score: float
    tag: str
    ids: tuple[int, ...]


def match_boxes(
    probabilities: npt.NDArray[np.float32], prompt: Prompt, text_threshold: float, style: Style = "phrases"
) -> list[Match]:
    """Map every box to the tag it means.

    With ``phrases`` only tokens of tags count for the score, and the answer is made of those of the chosen tag. With
    ``joined`` every token counts, [CLS], commas and the full stop too, and the answer is made of all but the first, as
    GroundingDINO's ``get_phrases_from_posmap`` does (util/utils.py, revision 856dde2); the tag is chosen as always.

    Args:
        probabilities: [boxes, tokens of the prompt], 0..1.
        prompt: What was asked.
        text_threshold: Probability above which a token belongs to the answer.
        style: As the prompt was planned with.
    """
    # Rounded before anything is decided: the last bits differ with the machine and the batch.
    rounded = np.round(probabilities.astype(np.float64), 4)
    means = np.stack([rounded[:, start:stop].mean(axis=1) for start, stop in prompt.spans], axis=1)
    inside = [position for start, stop in prompt.spans for position in range(start, stop)]
    highest = rounded.max(axis=1) if style == "joined" else rounded[:, inside].max(axis=1)
    every = range(1, min(JOINED_END, len(prompt.ids)))
    matches = []
    for row, tag in enumerate(means.argmax(axis=1)):
        positions = every if style == "joined" else range(*prompt.spans[tag])
        ids = tuple(prompt.ids[i] for i in positions if rounded[row, i] > text_threshold)
        matches.append(Match(float(highest[row]), prompt.tags[tag], ids))
    return matches
