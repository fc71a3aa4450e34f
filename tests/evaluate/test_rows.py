"""What both sides say of each image, as it stands in the lake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from duckdb import DuckDBPyConnection
from scored_lake import Answer, Object, ScoredLake, instance_id

from etl.errors import DataError
from etl.evaluate.choose import choose
from etl.evaluate.classes import ClassMap
from etl.evaluate.rows import Pair, Rows, Said
from etl.lake import Snapshot
from etl.lake.ids import digest

DOG, BALL = Object("dog", (8, 6, 20, 20), caption="a dog"), Object("ball", (25, 10, 35, 20), score=0.75)
BOTH = Answer(["dog", "ball"], [DOG, BALL], "a dog and a ball")
HALF = Answer(BOTH.tags, BOTH.objects, BOTH.caption, status={"tag": "failed", "ground": "failed"})
CAT = Answer(["cat"], [Object("cat", (1, 2, 5, 8), caption="cat", flag="label")])


@dataclass(frozen=True)
class World:
    """Three pictures with a truth, and models with answers of every kind, by name."""

    connection: DuckDBPyConnection
    models: dict[str, dict[str, str]]
    hand: list[str]

    def read(self, model: str, classes: ClassMap | None = None, size: int = 500) -> tuple[dict[str, Pair], Rows]:
        chosen = choose(self.connection, truth="truth", annotators=list(self.models[model].values()))
        rows = Rows(self.connection, chosen, classes or ClassMap())
        return {pair.image_id: pair for pairs in rows.ranges(size) for pair in pairs}, rows


@pytest.fixture(scope="module")
def world(scored: ScoredLake) -> Iterator[World]:
    scored.truth([BOTH, BOTH, BOTH, BOTH], ids=[*scored.hand, *scored.other])
    scored.add("takedowns", kind="image_id", value=scored.other[0])
    models = {
        "same": scored.say("same", [BOTH, BOTH, BOTH]),
        "cat": scored.say("cat", [CAT, None, None]),
        "poor": scored.say("poor", [Answer(), HALF, None]),
    }
    unit = digest("order", models["poor"]["tag"])  # a row that a failed outcome has left
    scored.add(
        "tags",
        image_id=scored.hand[1],
        annotator_id=models["poor"]["tag"],
        unit=unit,
        tags=[{"tag": "dog", "score": 1}],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scored_lake.SIZE", (41, 30))
        models["odd"] = scored.say("odd", [BOTH])
    with Snapshot.take(scored.lake).connect() as connection:
        yield World(connection, models, scored.hand)


def test_everything_of_an_image_stands_together(world: World) -> None:
    pair = world.read("cat")[0][world.hand[0]]
    assert (pair.width, pair.height, pair.stages) == (40, 30, {"tag", "ground", "caption"})
    assert (pair.truth.tags, pair.truth.captions) == ({"dog", "ball"}, ("a dog and a ball",))
    ball, dog = pair.truth.instances  # best first
    assert (dog.instance_id, dog.label) == (instance_id(pair.image_id, 0, DOG), "dog")
    assert (dog.caption, ball.caption) == ("a dog", None)
    assert dog.box == (8, 6, 12, 14)  # x, y, width, height
    (cat,) = pair.predicted.instances
    assert (cat.caption, cat.flag, cat.mask["size"]) == ("cat", "label", [30, 40])


def test_images_come_in_order_of_their_ids_whatever_the_ranges(world: World) -> None:
    one, two = world.read("poor")[0], world.read("poor", size=2)[0]
    assert list(one) == list(two) == sorted(world.hand)
    assert one == two


def test_without_an_outcome_or_with_a_failed_one_nothing_was_predicted_and_it_is_counted(world: World) -> None:
    pairs, rows = world.read("poor")
    empty, half, never = (pairs[image_id].predicted for image_id in world.hand)
    assert empty == never == Said()
    assert half == Said(captions=("a dog and a ball",)), "only the caption's outcome has not failed"
    assert rows.without_outcome == {"tag": 1, "ground": 1, "caption": 1}
    assert rows.failed == {"tag": 1, "ground": 1}


def test_labels_of_the_scored_side_are_renamed_and_the_ignored_counted(world: World) -> None:
    pairs, rows = world.read("same", ClassMap(classes={"dog": "hound", "ball": None}))
    for pair in pairs.values():
        assert (pair.truth.tags, pair.predicted.tags) == ({"dog", "ball"}, {"hound"})
        assert [one.label for one in pair.predicted.instances] == ["hound"]
    assert rows.ignored == {"tag": 3, "ground": 3}


def test_a_picture_that_was_taken_down_does_not_count(world: World) -> None:
    assert world.read("same")[0].keys() == set(world.hand)


def test_masks_of_different_sizes_are_refused(world: World) -> None:
    with pytest.raises(DataError, match="masks of 40x30 and 41x30 pixels are compared, the image has 40x30"):
        world.read("odd")
