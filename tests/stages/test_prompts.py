"""Prompts: every tag is asked for whole, and every box comes back as exactly one of the tags."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import ConfigurationError
from etl.models.grounding_dino import Detector
from etl.models.tokenizers import detector_tokenizer
from etl.models.tokens import CLS, COMMA, DOT, QUESTION, SEP
from etl.stages.prompts import match_boxes, plan_prompts


@pytest.fixture(scope="module")
def detector() -> Detector:
    """A detector's tokens, without its network."""
    made = object.__new__(Detector)
    made.tokenizer = TOKENIZER
    return made


TOKENIZER = detector_tokenizer(["dog", "traffic", "light", "cube", "ball"])
TAGS = ["dog", "traffic light", "t-shirt", "ball (toy)", "rubik's cube", "3d glasses", "st. bernard", "who?", "a, b"]


def tokens(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("style", ["phrases", "joined"])
@pytest.mark.parametrize("limit", [20, 40, 256])
def test_every_tag_maps_back_to_itself(style: str, limit: int):
    asked = []
    for prompt in plan_prompts(TAGS, tokens, limit, style):
        assert len(prompt.ids) <= limit
        for number, (tag, (start, stop)) in enumerate(zip(prompt.tags, prompt.spans, strict=True)):
            probabilities = np.zeros((1, len(prompt.ids)), np.float32)
            probabilities[0, start:stop] = 0.9
            (match,) = match_boxes(probabilities, prompt, 0.2, style)
            assert (match.tag, match.score) == (prompt.tags[number], pytest.approx(0.9))
            words = tag.replace(".", " ").replace("?", " ") if style == "phrases" else tag
            assert TOKENIZER.decode(match.ids) == TOKENIZER.decode(tokens(words))
            asked.append(tag)
    assert asked == TAGS


def test_phrases_are_parted_by_full_stops_and_joined_ones_by_commas():
    (phrases,) = plan_prompts(["dog", "traffic light"], tokens, 64, "phrases")
    (joined,) = plan_prompts(["dog", "traffic light"], tokens, 64, "joined")
    dog, light = tokens("dog"), tokens("traffic light")
    assert phrases.ids == (CLS, *dog, DOT, *light, DOT, SEP)
    assert joined.ids == (CLS, *dog, COMMA, *light, DOT, SEP)


def test_a_separator_inside_a_tag_splits_no_phrase():
    (prompt,) = plan_prompts(["st. bernard", "who?"], tokens, 64)
    assert prompt.ids.count(DOT) == 2
    assert QUESTION not in prompt.ids
    assert prompt.tags == ("st. bernard", "who?")


@given(
    st.lists(st.text("abcdefgh -.'", min_size=1, max_size=12), max_size=30, unique=True),
    st.integers(min_value=16, max_value=60),
)
def test_nothing_is_lost_or_cut_whatever_the_tags(tags: list[str], limit: int):
    prompts = plan_prompts(tags, tokens, limit)
    wanted = [tag for tag in tags if tokens(tag.replace(".", " "))]
    assert [tag for prompt in prompts for tag in prompt.tags] == wanted
    for prompt in prompts:
        assert len(prompt.ids) <= limit
        assert (prompt.ids[0], prompt.ids[-1]) == (CLS, SEP)
        for tag, (start, stop) in zip(prompt.tags, prompt.spans, strict=True):
            assert list(prompt.ids[start:stop]) == tokens(tag.replace(".", " "))


MARKS = [
    "[SEP]",
    "[CLS]",
    "[PAD]",
    "a [MASK] b",
    "...",
    "?!",
    ".",
    ",",
    "it's",
    "a-b",
    "A.B",
    "a b",
    "3d",
    "\u200b",
    "",
]
ANY_TAG = st.one_of(st.sampled_from(MARKS), st.text(max_size=8), st.text("ab.,-'? 7", max_size=8))


@pytest.mark.parametrize("style", ["phrases", "joined"])
@settings(deadline=None, max_examples=60, derandomize=True)
@given(tags=st.lists(ANY_TAG, max_size=25), limit=st.integers(48, 90), data=st.data())
def test_any_text_is_asked_for_once_and_its_tokens_lead_back_to_it(
    detector: Detector, style: str, tags: list[str], limit: int, data: st.DataObject
):
    one_phrase = {tag: tag.replace(".", " ").replace("?", " ") if style == "phrases" else tag for tag in tags}
    prompts = plan_prompts(tags, detector.tokens, limit, style)
    assert [tag for prompt in prompts for tag in prompt.tags] == [
        tag for tag in tags if detector.tokens(one_phrase[tag])
    ]
    for prompt in prompts:
        assert len(prompt.ids) <= limit
        assert (prompt.ids[0], prompt.ids[-1], prompt.ids[1:-1].count(SEP)) == (CLS, SEP, 0)
        spans = [position for span in prompt.spans for position in range(*span)]
        assert spans == sorted(set(spans)), "no token belongs to two tags"
        if style == "phrases":
            assert prompt.ids.count(DOT) == len(prompt.tags), "each is a phrase of its own"
            assert {0, CLS, SEP, DOT, QUESTION}.isdisjoint(prompt.ids[position] for position in spans)
        number = data.draw(st.integers(0, len(prompt.tags) - 1), label="tag")
        probabilities = np.full((1, len(prompt.ids)), 0.1, np.float32)
        probabilities[0, slice(*prompt.spans[number])] = 0.6
        (match,) = match_boxes(probabilities, prompt, 0.2, style)
        assert (match.tag, match.score) == (prompt.tags[number], pytest.approx(0.6))
        assert match.ids == prompt.ids[slice(*prompt.spans[number])]


def test_prompts_are_as_few_as_they_can_be():
    assert [len(prompt.tags) for prompt in plan_prompts(["dog"] * 7, tokens, 8)] == [3, 3, 1]


def test_no_tags_give_no_prompt():
    assert plan_prompts([], tokens, 64) == []
    assert plan_prompts(["...", " "], tokens, 64) == []


def test_a_tag_longer_than_a_prompt_is_refused_not_cut():
    with pytest.raises(ConfigurationError, match="exclude_tags"):
        plan_prompts(["dog " * 30], tokens, 16)


def test_a_box_goes_to_the_tag_with_the_best_mean_and_is_scored_by_the_best_token():
    (prompt,) = plan_prompts(["traffic light", "dog"], tokens, 64)
    probabilities = np.zeros((2, len(prompt.ids)), np.float32)
    traffic, light, dog = 1, 2, 4
    probabilities[0, [traffic, light, dog]] = [0.1, 0.8, 0.5]
    probabilities[1, [traffic, light, dog]] = [0.7, 0.8, 0.5]
    first, second = match_boxes(probabilities, prompt, 0.2)
    assert (first.tag, first.score, first.ids) == ("dog", pytest.approx(0.8), tuple(tokens("dog")))
    assert (second.tag, second.score, second.ids) == (
        "traffic light",
        pytest.approx(0.8),
        tuple(tokens("traffic light")),
    )


WORDS = st.text("abcdefgh -.'?,", min_size=1, max_size=12).filter(lambda tag: tokens(tag))


def upstream_phrase(probabilities: np.ndarray, ids: list[int], threshold: float) -> str:
    """What ``get_phrases_from_posmap`` gives: every token above the threshold but the first and those from 255 on."""
    chosen = [token for place, token in enumerate(ids) if probabilities[place] > threshold and 0 < place < 255]
    return TOKENIZER.decode(chosen)


@settings(deadline=None, max_examples=50)
@given(tags=st.lists(WORDS, min_size=1, max_size=40, unique=True), seed=st.integers(0, 2**32 - 1))
def test_joined_prompts_ask_and_answer_as_upstream(tags: list[str], seed: int):
    caption = ", ".join(tags).lower().strip()
    expected = TOKENIZER(caption if caption.endswith(".") else caption + ".")["input_ids"]
    if len(expected) > 256:
        return
    (prompt,) = plan_prompts(tags, tokens, 256, "joined")
    assert list(prompt.ids) == expected
    probabilities = np.random.default_rng(seed).integers(0, 60, (5, len(expected))) / 128  # no ties with a threshold
    matches = match_boxes(probabilities.astype(np.float32), prompt, 0.2, "joined")
    for row, match in zip(probabilities, matches, strict=True):
        assert match.score == pytest.approx(row.max(), abs=5e-5)
        assert TOKENIZER.decode(list(match.ids)) == upstream_phrase(row, expected, 0.2)
        assert match.tag in tags


def test_joined_answers_hold_what_upstream_leaves_in():
    (prompt,) = plan_prompts(["dog", "traffic light"], tokens, 256, "joined")
    probabilities = np.full((1, len(prompt.ids)), 0.3, np.float32)
    probabilities[0, 0] = 0.9
    (match,) = match_boxes(probabilities, prompt, 0.2, "joined")
    assert match.score == pytest.approx(0.9)
    assert TOKENIZER.decode(list(match.ids)) == "dog, traffic light. [SEP]"


def test_a_piece_of_a_word_keeps_its_mark_only_in_front():
    (prompt,) = plan_prompts(["cubes"], tokens, 256, "joined")
    pieces = TOKENIZER.convert_ids_to_tokens(list(prompt.ids))
    assert pieces == ["[CLS]", "cube", "##s", ".", "[SEP]"]
    probabilities = np.zeros((2, len(prompt.ids)), np.float32)
    probabilities[0, 1:3], probabilities[1, 2] = 0.5, 0.5
    whole, end = match_boxes(probabilities, prompt, 0.2, "joined")
    assert [TOKENIZER.decode(list(match.ids)) for match in (whole, end)] == ["cubes", "##s"]


def test_separators_have_no_say():
    (prompt,) = plan_prompts(["dog"], tokens, 64)
    probabilities = np.full((1, len(prompt.ids)), 0.99, np.float32)
    probabilities[0, 1] = 0.3
    assert match_boxes(probabilities, prompt, 0.2)[0].score == pytest.approx(0.3)


def test_a_box_none_of_whose_tokens_pass_answers_with_nothing():
    (prompt,) = plan_prompts(["dog", "ball"], tokens, 64)
    probabilities = np.full((1, len(prompt.ids)), 0.1, np.float32)
    assert match_boxes(probabilities, prompt, 0.2)[0].ids == ()


def test_planning_prompts_needs_no_torch():
    assert "torch" not in Path(plan_prompts.__code__.co_filename).read_text()
