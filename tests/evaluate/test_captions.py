"""Captions against those of the truth, by hand."""

from __future__ import annotations

import pytest
from said import pair
from scored_lake import Object

from etl.evaluate.captions import CaptionCounter, CaptionScores, Texts, word_f1
from etl.evaluate.matching import match
from etl.evaluate.rows import Pair

LEFT, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10)


def scores(*pairs: Pair) -> CaptionScores:
    counter = CaptionCounter()
    for one in pairs:
        counter.add(one, match(one.truth.instances, one.predicted.instances))
    return counter.scores()


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ("a red star", "a red star", 1.0),
        ("a red star", "star red a", 1.0),  # the order does not count
        ("A red, star.", "a  RED star", 1.0),  # nor do case and punctuation
        ("a red star", "a blue ring", 2 * 1 / 6),
        ("a star and a ring", "a a a a", 2 * 2 / 9),  # "a" is there twice, so it counts twice and no more
        ("a red star", "", 0.0),
        ("...", "!", 1.0),  # no words on either side
    ],
)
def test_words_are_counted_as_often_as_they_are_there(truth: str, predicted: str, expected: float) -> None:
    assert word_f1(truth, predicted) == pytest.approx(expected)
    assert word_f1(predicted, truth) == pytest.approx(expected)


def test_captions_of_images_are_compared_word_for_word() -> None:
    # The same words: 1 and 1. Two of three and of four: 0 and 4 / 7. None: 0 and 0.
    found = scores(
        pair(captions=(["two red stars"], ["two red stars"]), name="a"),
        pair(captions=(["two red stars"], ["one of two stars"]), name="b"),
        pair(captions=(["two red stars"], []), name="c"),
    )
    assert found.images == Texts(exact=1 / 3, word_f1=pytest.approx((1 + 4 / 7) / 3), n=3, missing=1)
    assert found.instances == Texts()


def test_an_exact_match_has_the_words_in_their_order() -> None:
    found = scores(pair(captions=(["red star"], ["star red"])))
    assert (found.images.exact, found.images.word_f1) == (0.0, 1.0)


def test_of_several_captions_of_the_truth_the_best_counts() -> None:
    found = scores(pair(captions=(["a dog", "a brown dog"], ["a brown dog"])))
    assert (found.images.exact, found.images.word_f1, found.images.n) == (1.0, 1.0, 1)


def test_an_image_whose_truth_has_no_caption_is_not_compared() -> None:
    assert scores(pair(captions=([], ["a dog"]))).images == Texts()


def test_swapped_captions_of_two_instances_are_wrong() -> None:
    # "red star" against "blue ring" shares nothing; "blue ring" against "red star" neither.
    truth = [Object("star", LEFT, caption="red star"), Object("ring", RIGHT, caption="blue ring")]
    swapped = [Object("star", LEFT, caption="blue ring"), Object("ring", RIGHT, caption="red star")]
    assert scores(pair(truth, truth)).instances == Texts(1.0, 1.0, 2)
    assert scores(pair(truth, swapped)).instances == Texts(0.0, 0.0, 2)


def test_only_matched_instances_are_compared_whatever_their_labels() -> None:
    truth = [Object("star", LEFT, caption="red star"), Object("ring", RIGHT, caption="blue ring")]
    found = scores(pair(truth, [Object("cross", LEFT, caption="red cross")]))
    assert found.instances == Texts(exact=0.0, word_f1=0.5, n=1)  # one word of two on both sides


def test_instances_too_small_to_be_captioned_are_counted_apart() -> None:
    truth = [Object("star", LEFT, caption="red star"), Object("ring", RIGHT, caption="blue ring")]
    seen = [Object("star", LEFT, caption="star", flag="label"), Object("ring", RIGHT, caption="blue ring")]
    assert scores(pair(truth, seen)).instances == Texts(1.0, 1.0, 1, too_small=1)


def test_a_degenerate_caption_is_compared_as_it_is() -> None:
    seen = [Object("star", LEFT, caption="red red red red", flag="loop")]
    found = scores(pair([Object("star", LEFT, caption="red star")], seen))
    assert found.instances == Texts(exact=0.0, word_f1=pytest.approx(2 / 6), n=1)


def test_a_matched_instance_without_a_caption_is_wrong_unless_the_truth_has_none_either() -> None:
    found = scores(pair([Object("star", LEFT, caption="red star")], [Object("star", LEFT)]))
    assert found.instances == Texts(0.0, 0.0, n=1, missing=1)
    assert scores(pair([Object("star", LEFT)], [Object("star", LEFT, caption="red star")])).instances == Texts()
