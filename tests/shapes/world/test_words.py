"""Phrases and sentences: the same things have the same words, in the vocabulary of the networks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from etl.shapes.world.words import (
    COLOUR_NAMES,
    NUMBERS,
    PLAIN,
    SHAPES,
    TAGS,
    TEXTURES,
    phrase,
    sentence,
    sentence_words,
)

PAIRS = st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(COLOUR_NAMES)), max_size=8)


def test_there_are_nineteen_tags_and_plain_is_none():
    assert len(TAGS) == len(set(TAGS)) == len(SHAPES) + len(COLOUR_NAMES) + 2
    assert PLAIN not in TAGS


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(SHAPES), st.sampled_from(COLOUR_NAMES), st.sampled_from(TEXTURES))
def test_a_phrase_is_texture_colour_shape_and_a_plain_texture_is_not_said(shape: str, colour: str, texture: str):
    words = phrase(shape, colour, texture).split()
    assert words == ([colour, shape] if texture == PLAIN else [texture, colour, shape])
    assert set(words) <= set(TAGS)


@settings(deadline=None, max_examples=50)
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_instances_does_not_matter_to_a_sentence(pairs: list[tuple[str, str]], random):
    shuffled = random.sample(pairs, len(pairs))
    assert sentence(shuffled) == sentence(pairs)


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_a_sentence_says_how_many_and_each_colour_and_shape_once(pairs: list[tuple[str, str]]):
    words = sentence(pairs).split()
    assert words[0] == NUMBERS[len(pairs)]
    assert sorted(word for word in words if word in TAGS) == sorted({word for pair in pairs for word in pair})


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_every_word_of_a_sentence_is_in_the_vocabulary(pairs: list[tuple[str, str]]):
    assert set(sentence(pairs).split()) <= set(sentence_words())
