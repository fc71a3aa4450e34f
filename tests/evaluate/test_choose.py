"""Who is compared with whom: names, ids, current annotators, and the images that count."""

from __future__ import annotations

import re

import pytest
from scored_lake import Answer, Object, ScoredLake

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.evaluate.choose import Chosen, choose
from etl.lake import Snapshot

DOG = Answer(["dog"], [Object("dog", (8, 6, 20, 20), caption="a dog")], "a dog")
SHORT = 8  # digits that tell the annotators of these tests apart


def chosen(scored: ScoredLake, truth: str = "truth", source: str | None = None, *annotators: str) -> Chosen:
    return choose(Snapshot.take(scored.lake), truth=truth, source=source, annotators=annotators)


def ids(sides: Chosen) -> tuple[dict[str, str], dict[str, str]]:
    truth, predicted = ({s: a.annotator_id for s, a in side.items()} for side in (sides.truth, sides.predicted))
    return truth, predicted


def images(sides: Chosen, stage: str = "tag") -> set[str]:
    return {row["image_id"] for row in sides.scope.to_pylist() if row["stage"] == stage}


@pytest.fixture
def two(scored: ScoredLake) -> ScoredLake:
    """Two pictures with a truth and a current annotator."""
    scored.truth([DOG, DOG])
    scored.say("seen", [DOG, DOG], current="hand")
    return scored


def test_a_dataset_is_the_truth_of_its_stages_and_the_current_annotators_are_scored(scored: ScoredLake) -> None:
    truth = scored.truth([DOG])
    seen = scored.say("seen", [DOG], current="hand")
    scored.say("candidate", [DOG])
    found = chosen(scored)
    assert ids(found) == (truth, seen)
    assert (found.stages, found.notes) == (("tag", "ground", "caption"), ())


def test_ids_and_beginnings_of_them_name_both_sides(two: ScoredLake) -> None:
    right, seen = two.say("one", [DOG, DOG]), two.say("other", [DOG, DOG])
    truth = f"{right['tag'][:SHORT]},{right['ground']}"
    found = chosen(two, truth, None, seen["tag"][:SHORT], seen["caption"])
    assert found.truth.keys() == {"tag", "ground"}
    assert found.predicted["tag"].annotator_id == seen["tag"]
    assert found.predicted["ground"].model == "seen"  # the current one
    assert found.stages == ("tag", "ground")
    assert found.notes == ("caption: not scored, there is no truth of it",)


def test_a_dataset_may_be_scored_too(two: ScoredLake) -> None:
    found = chosen(two, "truth", None, "truth")
    assert found.truth == found.predicted
    assert re.search(r"tag: .* is compared with itself", found.notes[0])


def test_the_content_landed_last_is_the_truth(two: ScoredLake) -> None:
    newer = two.truth([Answer(["cat"]), None], version=2, stages=["tag"])
    found = chosen(two)
    assert found.truth["tag"].annotator_id == newer["tag"]
    assert images(found) == {two.hand[0]}
    assert "landed last; not used: " in found.notes[0]


def test_a_version_of_other_images_does_not_hide_the_one_of_these(two: ScoredLake) -> None:
    two.truth([DOG], version=2, ids=two.other)
    two.say("seen", [DOG], version=2, ids=two.other, current="other")
    assert images(chosen(two, source="hand")) == set(two.hand[:2])
    assert images(chosen(two, source="other")) == set(two.other)


def test_a_failed_truth_is_counted_and_left_out(scored: ScoredLake) -> None:
    scored.truth([DOG, Answer(), Answer(status={"tag": "failed"})])
    scored.say("seen", [DOG, DOG, DOG], current="hand")
    found = chosen(scored)
    assert images(found) == set(scored.hand[:2])  # ok, and empty
    assert found.truth_failed == {"tag": 1}
    assert images(found, "ground") == set(scored.hand)


def test_sizes_of_images_come_along(two: ScoredLake) -> None:
    assert {(row["width"], row["height"]) for row in chosen(two).scope.to_pylist()} == {(40, 30)}


def test_a_stage_that_never_ran_is_not_scored_and_said(scored: ScoredLake) -> None:
    scored.truth([DOG])
    scored.say("seen", [DOG], stages=["tag"], current="hand")
    found = chosen(scored)
    assert found.stages == ("tag",)
    assert found.notes == (
        "ground: not scored, no annotator ran for hand",
        "caption: not scored, no annotator ran for hand",
    )


class TestRefusals:
    def test_an_unknown_truth_lists_what_there_is(self, two: ScoredLake) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown truth 'coco'; known: .*\(tag, seen\).*dataset truth"):
            chosen(two, "coco")

    def test_an_unknown_annotator_lists_what_there_is(self, two: ScoredLake) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown annotator 'zz'; known: .*seen"):
            chosen(two, "truth", None, "zz")

    def test_a_beginning_that_fits_several_lists_them(self, two: ScoredLake) -> None:
        first = [two.say(f"m{n}", [DOG, None], stages=["tag"])["tag"][0] for n in range(17)]  # one digit must repeat
        twice = next(digit for digit in first if first.count(digit) > 1)
        with pytest.raises(UnknownNameError, match=f"annotator .ambiguous. '{twice}'; known: {twice}"):
            chosen(two, "truth", None, twice)

    @pytest.mark.parametrize("empty", ["", "truth,"])
    def test_an_empty_name_fits_nothing(self, two: ScoredLake, empty: str) -> None:
        with pytest.raises(UnknownNameError, match="unknown truth ''"):
            chosen(two, empty)

    def test_an_unknown_source_lists_the_known_ones(self, two: ScoredLake) -> None:
        with pytest.raises(UnknownNameError, match="known: hand"):
            chosen(two, "truth", "news")

    def test_two_annotators_of_one_stage_are_too_many(self, two: ScoredLake) -> None:
        more = two.say("more", [DOG, DOG])
        with pytest.raises(ConfigurationError, match="two of stage 'tag' are given as truth"):
            chosen(two, f"truth,{more['tag']}")
        with pytest.raises(ConfigurationError, match="two of stage 'tag' are given as annotator"):
            chosen(two, "truth", None, more["tag"], two.say("again", [DOG, DOG])["tag"])

    def test_a_dataset_with_several_versions_cannot_be_scored_by_its_name(self, two: ScoredLake) -> None:
        two.truth([DOG, DOG], version=2)
        with pytest.raises(UnknownNameError, match=r"annotator .ambiguous. 'truth'"):
            chosen(two, two.say("right", [DOG, DOG])["tag"], None, "truth")

    def test_a_stage_that_has_no_right_and_wrong_is_refused(self, two: ScoredLake) -> None:
        two.add("annotators", annotator_id="e" * 32, stage="embed")
        with pytest.raises(ConfigurationError, match="stage 'embed', which cannot be scored"):
            chosen(two, "truth", None, "eeee")

    def test_sources_with_different_current_annotators_must_be_told_apart(self, scored: ScoredLake) -> None:
        scored.truth([DOG, DOG], ids=[scored.hand[0], *scored.other], stages=["tag"])
        scored.say("seen", [DOG], current="hand")
        scored.say("newer", [DOG], ids=scored.other, current="other")
        with pytest.raises(ConfigurationError, match="different current tag annotators") as caught:
            chosen(scored)
        assert "--source" in str(caught.value)
        assert chosen(scored, "truth", "other").predicted["tag"].model == "newer"

    def test_a_truth_of_no_image_of_the_source_is_nothing_to_score(self, two: ScoredLake) -> None:
        with pytest.raises(DataError, match="'truth' has no outcome of any image of source 'other'") as caught:
            chosen(two, source="other")
        assert caught.value.remedy

    def test_nobody_to_score_is_nothing_to_score(self, scored: ScoredLake) -> None:
        scored.truth([DOG])
        with pytest.raises(DataError, match="nothing to score: tag: not scored, no annotator ran for hand") as caught:
            chosen(scored)
        assert "groundlake annotate run" in str(caught.value)

    def test_a_truth_that_has_only_failed_is_nothing_to_score(self, scored: ScoredLake) -> None:
        scored.truth([Answer(status={"tag": "failed"})] * 2, stages=["tag"])
        scored.say("seen", [DOG, DOG], current="hand")
        with pytest.raises(DataError, match="the truth failed for all its 2 outcomes"):
            chosen(scored)
