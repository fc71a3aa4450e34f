"""All scores of a small lake, by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from scored_lake import NO_MASK, Answer, Object, ScoredLake

from etl.evaluate.classes import ClassMap
from etl.evaluate.evaluation import Evaluation, evaluate

Score = Callable[..., Evaluation]
DOG, BALL = (8, 6, 20, 20), (25, 10, 35, 20)
# Truth: two objects in the first picture, nothing in the second, one in the third.
TRUTH = [
    Answer(
        ["dog", "ball"],
        [Object("dog", DOG, caption="a brown dog"), Object("ball", BALL, caption="a red ball")],
        "a dog and a ball",
    ),
    Answer(),
    Answer(["dog"], [Object("dog", DOG, caption="a dog")], "one dog"),
]
# First: a wrong tag for the ball, half of its mask, and the captions of both objects swapped. Second: a dog that is
# none. Third: never asked.
POOR = [
    Answer(
        ["dog", "cat"],
        [
            Object("dog", DOG, caption="a red ball", score=0.875),
            Object("ball", BALL, mask=(25, 10, 30, 20), caption="a brown dog", score=0.75),
        ],
        "a ball and a dog",
    ),
    Answer(["dog"], [Object("dog", DOG, caption="a dog", score=0.5)]),
    None,
]
FAILED = Answer(status={"tag": "failed", "ground": "failed", "caption": "failed"})


@pytest.fixture(scope="module")
def score(scored: ScoredLake) -> Score:
    """Scores of a model, by its name."""
    scored.truth(TRUTH)
    scored.truth([Answer()] * 3, "bare")
    scored.truth([Answer(objects=[Object("dog", DOG, NO_MASK)]), Answer(), TRUTH[2]], "boxes", stages=["ground"])
    models = {
        "perfect": scored.say("perfect", TRUTH),
        "poor": scored.say("poor", POOR),
        "silent": scored.say("silent", [Answer()] * 3),
        "failing": scored.say("failing", [FAILED] * 3),
        "tagger": scored.say("tagger", TRUTH, stages=["tag"]),
    }
    for number in (2, 1, 0):  # in files of their own, last image first
        models["backwards"] = scored.say("backwards", [POOR[number]], ids=[scored.hand[number]])
        lake = scored.lake

    made: dict[tuple[str, str, str], Evaluation] = {}

    def of(model: str, classes: ClassMap | None = None, truth: str = "truth") -> Evaluation:
        key = (model, str(classes), truth)
        if key not in made:
            made[key] = evaluate(lake, truth=truth, annotators=list(models[model].values()), classes=classes)
        return made[key]

    return of


def values(found: Evaluation) -> dict[str, Any]:
    return {line.name: line.value for line in found.lines()}


def over(found: Evaluation) -> dict[str, int]:
    return {line.name: line.n for line in found.lines()}


def test_the_truth_itself_has_every_score_at_its_best(score: Score) -> None:
    found = score("perfect")
    assert set(values(found).values()) == {1.0}
    assert found.notes == ()
    assert all(one.score == 1.0 for one in found.worst)


def test_every_mistake_is_in_the_score_it_belongs_to(score: Score) -> None:
    found = score("poor")
    # Tags: truth 3, prediction 3 (dog, cat; dog), right 1.
    # Boxes: of two dogs one found, ranked above the false one: precision 1 up to recall .5, 51 of 101 recalls. Ball: 1.
    # Masks: dog 1 and ball .5. By COCO the half ball is right at one of ten thresholds.
    # Captions of instances: "a" is right in each of the two, of three words on both sides. Of images: all words in
    # another order, and none for the third picture; the second has none in the truth.
    dog = 51 / 101
    assert values(found) == pytest.approx(
        {
            "tags.f1": 2 / 6,
            "tags.precision": 1 / 3,
            "tags.recall": 1 / 3,
            "boxes.ap": (dog + 1) / 2,
            "boxes.ap50": (dog + 1) / 2,
            "boxes.ap75": (dog + 1) / 2,
            "masks.mean_iou": (1 + 0.5) / 2,
            "masks.ap": (dog + 0.1) / 2,
            "captions.instances.exact": 0,
            "captions.instances.word_f1": 2 / 6,
            "captions.images.exact": 0,
            "captions.images.word_f1": (1 + 0) / 2,
        }
    )
    counts = over(found)
    assert (counts["tags.f1"], counts["boxes.ap"], counts["masks.mean_iou"]) == (3, 3, 2)
    assert (counts["captions.instances.exact"], counts["captions.images.exact"]) == (2, 2)


def test_every_image_is_counted_and_what_was_not_answered_is_said(score: Score) -> None:
    images = score("poor").images
    once = {"tag": 1, "ground": 1, "caption": 1}
    assert (images.evaluated, images.per_stage) == (3, dict.fromkeys(once, 3))
    assert (images.without_outcome, sum(images.failed.values())) == (once, 0)
    assert score("failing").images.failed == dict.fromkeys(once, 3)
    assert "ground: 3 of 3 images have a failed outcome of" in score("failing").notes[1]


def test_nothing_predicted_and_everything_failed_score_the_same(score: Score) -> None:
    silent = values(score("silent"))
    assert silent == values(score("failing"))
    assert silent["tags.recall"] == silent["boxes.ap"] == silent["captions.images.word_f1"] == 0.0
    assert silent["tags.precision"] is silent["masks.mean_iou"] is silent["captions.instances.exact"] is None


def test_a_truth_of_empty_images_has_scores_where_there_is_something_to_count(score: Score) -> None:
    found = score("poor", truth="bare")
    assert values(found)["tags.precision"] == 0.0  # three tags, none of them right
    assert values(found)["boxes.ap"] is values(found)["captions.images.exact"] is None
    assert found.boxes.predicted == found.boxes.unknown == 3


def test_a_stage_that_is_not_scored_has_no_value_and_a_line_that_says_so(score: Score) -> None:
    found = score("tagger")
    assert values(found)["tags.f1"] == 1.0
    assert {value for name, value in values(found).items() if not name.startswith("tags")} == {None}
    assert found.notes == tuple(f"{stage}: not scored, no annotator ran for hand" for stage in ("ground", "caption"))
    assert found.to_json()["boxes"]["ap"] is None


def test_masks_are_scored_where_the_truth_has_them(score: Score) -> None:
    found = score("perfect", truth="boxes")
    assert (found.boxes.ap50, values(found)["masks.mean_iou"], found.masks.matched) == (1.0, 1.0, 1)
    assert "masks: 1 images are left out, their truth has boxes without masks" in found.notes


def test_nothing_depends_on_the_order_of_rows(score: Score) -> None:
    one, other = (score(name).to_json() for name in ("poor", "backwards"))
    for content in (one, other):
        del content["annotators"], content["notes"]
    assert one == other


def test_nothing_depends_on_whether_the_lake_is_asked_part_by_part(
    score: Score, scored: ScoredLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = score("poor")
    monkeypatch.setattr("etl.lake.parting._number", lambda connection: 2)
    names = [one.annotator_id for one in found.chosen.predicted.values()]
    told: list[tuple[int, int]] = []
    again = evaluate(scored.lake, truth="truth", annotators=names, progress=lambda *counts: told.append(counts))
    assert again.to_json() == found.to_json()
    assert told == [(3, 3)]


def test_labels_are_renamed_and_groups_scored_apart(score: Score) -> None:
    classes = ClassMap(classes={"cat": "ball"}, groups={"pets": ["dog"], "toys": ["ball", "doll"]})
    found = score("poor", classes)
    assert values(found)["tags.f1"] == 4 / 6  # the cat was a ball
    assert values(found)["tags.groups.toys.f1"] == 1.0
    assert values(found)["tags.groups.pets.f1"] == 2 / 4
    assert found.notes[-1] == "the class map names what the truth never does: doll"


def test_ignored_labels_are_neither_right_nor_wrong(score: Score) -> None:
    found = score("poor", ClassMap(classes={"cat": None, "ball": None}))
    assert (found.tags.ignored, found.boxes.ignored) == (1, 1)
    assert values(found)["tags.precision"] == 1 / 2
    assert (found.boxes.predicted, found.masks.matched) == (2, 1)


def test_json_holds_each_score_under_the_name_of_its_line(score: Score) -> None:
    found = score("poor", ClassMap(groups={"pets": ["dog"]}))
    content = json.loads(json.dumps(found.to_json()))
    assert set(content) >= {"tags", "boxes", "masks", "captions", "images", "annotators"}
    for line in found.lines():
        value: Any = content
        for key in line.name.split("."):
            value = value[key]
        assert value == line.value
    assert content["annotators"]["tag"]["predicted"]["model"] == "poor"
    assert content["boxes"]["classes"]["ball"] == {"ap": 1.0, "ap50": 1.0, "truth": 1, "predicted": 1}


def test_the_worst_images_come_first(score: Score, scored: ScoredLake) -> None:
    found = score("poor").worst
    assert {one.image_id for one in found[:2]} == set(scored.hand[1:])
    assert found[2].image_id == scored.hand[0]
