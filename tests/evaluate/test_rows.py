"""What both sides say of each image, as it stands in the lake."""

from __future__ import annotations

import pytest
from handmade import Handmade
from scored_lake import Answer, Object, ScoredLake, instance_id

from etl.errors import DataError
from etl.evaluate.choose import choose
from etl.evaluate.classes import ClassMap
from etl.evaluate.rows import Pair, Rows, Said, open_rows
from etl.lake import Snapshot
from etl.lake.ids import digest

DOG, BALL = Object("dog", (8, 6, 20, 20), caption="a dog"), Object("ball", (25, 10, 35, 20), score=0.75)
BOTH = Answer(["dog", "ball"], [DOG, BALL], "a dog and a ball")


def read(scored: ScoredLake, classes: ClassMap | None = None, size: int = 500) -> tuple[dict[str, Pair], Rows]:
    snapshot = Snapshot.take(scored.lake)
    with open_rows(snapshot, choose(snapshot, truth="truth"), classes or ClassMap()) as rows:
        return {pair.image_id: pair for pairs in rows.ranges(size) for pair in pairs}, rows


def test_everything_of_an_image_stands_together(scored: ScoredLake) -> None:
    image_id = scored.hand[0]
    scored.truth([BOTH])
    scored.say("seen", [Answer(["cat"], [Object("cat", (1, 2, 5, 8), caption="cat", flag="label")])], current="hand")
    pair = read(scored)[0][image_id]
    assert (pair.width, pair.height, pair.stages) == (40, 30, {"tag", "ground", "caption"})
    assert (pair.truth.tags, pair.truth.captions) == ({"dog", "ball"}, ("a dog and a ball",))
    ball, dog = pair.truth.instances  # best first
    assert (dog.instance_id, dog.label, dog.caption, ball.caption) == (
        instance_id(image_id, 0, DOG),
        "dog",
        "a dog",
        None,
    )
    assert dog.box == (8, 6, 12, 14)  # x, y, width, height
    (cat,) = pair.predicted.instances
    assert (cat.caption, cat.flag, cat.mask["size"]) == ("cat", "label", [30, 40])


def test_images_come_in_order_of_their_ids_whatever_the_ranges(scored: ScoredLake) -> None:
    scored.truth([BOTH] * 3)
    scored.say("seen", [BOTH, None, Answer()], current="hand")
    one, two = read(scored)[0], read(scored, size=2)[0]
    assert list(one) == list(two) == sorted(scored.hand)
    assert one == two


def test_without_an_outcome_or_with_a_failed_one_nothing_was_predicted_and_it_is_counted(scored: ScoredLake) -> None:
    ids = scored.hand
    scored.truth([BOTH] * 3)
    failed = Answer(BOTH.tags, BOTH.objects, BOTH.caption, status={"tag": "failed", "ground": "failed"})
    scored.say("seen", [Answer(), failed, None], current="hand")
    pairs, rows = read(scored)
    assert pairs[ids[0]].predicted == pairs[ids[2]].predicted == Said()
    assert (pairs[ids[1]].predicted.tags, pairs[ids[1]].predicted.instances) == (frozenset(), ())
    assert pairs[ids[1]].predicted.captions == ("a dog and a ball",)  # this stage has not failed
    assert rows.without_outcome == {"tag": 1, "ground": 1, "caption": 1}
    assert rows.failed == {"tag": 1, "ground": 1}


def test_rows_left_of_a_failed_outcome_are_not_read(scored: ScoredLake) -> None:
    image_id = scored.hand[0]
    scored.truth([BOTH])
    made = scored.say("seen", [Answer(status={"tag": "failed"})], stages=["tag"], current="hand")
    unit = digest("order", made["tag"])
    scored.add("tags", image_id=image_id, annotator_id=made["tag"], unit=unit, tags=[{"tag": "dog", "score": 1}])
    assert read(scored)[0][image_id].predicted == Said()


def test_labels_of_the_scored_side_are_renamed_and_the_ignored_counted(scored: ScoredLake) -> None:
    image_id = scored.hand[0]
    scored.truth([BOTH])
    scored.say("seen", [BOTH], current="hand")
    pairs, rows = read(scored, ClassMap(classes={"dog": "hound", "ball": None}))
    assert pairs[image_id].truth.tags == {"dog", "ball"}
    assert pairs[image_id].predicted.tags == {"hound"}
    assert [one.label for one in pairs[image_id].predicted.instances] == ["hound"]
    assert rows.ignored == {"tag": 1, "ground": 1}


def test_a_picture_that_was_taken_down_does_not_count(scored: ScoredLake) -> None:
    ids = scored.hand[:2]
    scored.truth([BOTH, BOTH])
    scored.say("seen", [BOTH, BOTH], current="hand")
    Handmade(scored.lake).take_down(ids[0])
    assert list(read(scored)[0]) == [ids[1]]


def test_masks_of_different_sizes_are_refused(scored: ScoredLake, monkeypatch: pytest.MonkeyPatch) -> None:
    scored.truth([BOTH])
    monkeypatch.setattr("scored_lake.SIZE", (41, 30))
    scored.say("seen", [BOTH], current="hand")
    with pytest.raises(DataError, match="masks of 40x30 and 41x30 pixels are compared, the image has 40x30"):
        read(scored)
