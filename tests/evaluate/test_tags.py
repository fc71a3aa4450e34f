"""Scores of tags, by hand."""

from __future__ import annotations

import pytest

from etl.evaluate.tags import Agreement, TagCounter, TagScores


def scores(*images: tuple[set[str], set[str]], **groups: list[str]) -> TagScores:
    counter = TagCounter()
    for truth, predicted in images:
        counter.add(truth, predicted)
    return counter.scores(groups)


def test_all_tags_of_all_images_count_the_same() -> None:
    # Truth 4 tags, prediction 3, right 2 (red and star of the first): P 2/3, R 2/4, F1 2 * 2 / (4 + 3).
    found = scores(({"red", "star"}, {"red", "star", "ring"}), ({"blue", "heart"}, set())).total
    assert found == Agreement(truth=4, predicted=3, correct=2)
    assert (found.precision, found.recall, found.f1) == (2 / 3, 1 / 2, 4 / 7)


def test_a_right_tag_of_another_image_is_wrong() -> None:
    assert scores(({"red"}, {"blue"}), ({"blue"}, {"red"})).total == Agreement(2, 2, 0)


def test_groups_and_single_tags_are_scored_apart() -> None:
    found = scores(({"red", "star"}, {"red", "ring"}), shapes=["star", "ring"], colours=["red"], sizes=["big"])
    assert {name: one.f1 for name, one in found.groups.items()} == {"shapes": 0.0, "colours": 1.0, "sizes": None}
    assert found.per_tag == {"red": Agreement(1, 1, 1), "ring": Agreement(0, 1, 0), "star": Agreement(1, 0, 0)}


@pytest.mark.parametrize(
    ("truth", "predicted", "precision", "recall", "f1"),
    [
        (set(), set(), None, None, None),
        ({"red"}, set(), None, 0.0, 0.0),
        (set(), {"red"}, 0.0, None, 0.0),
    ],
)
def test_what_has_no_denominator_has_no_value(
    truth: set[str], predicted: set[str], precision: float | None, recall: float | None, f1: float | None
) -> None:
    found = scores((truth, predicted)).total
    assert (found.precision, found.recall, found.f1) == (precision, recall, f1)
