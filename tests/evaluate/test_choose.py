"""Who is compared with whom: names, ids, current annotators, and the images that count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from duckdb import DuckDBPyConnection
from scored_lake import Answer, Object, ScoredLake

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.evaluate.choose import Chosen, choose
from etl.lake import Snapshot

DOG = Answer(["dog"], [Object("dog", (8, 6, 20, 20), caption="a dog")], "a dog")
FAILED = Answer(status={"tag": "failed"})
SHORT = 8  # digits that tell the annotators of these tests apart


@dataclass(frozen=True)
class Cast:
    """Everybody who spoke, by name: the id per stage."""

    connection: DuckDBPyConnection
    ids: dict[str, dict[str, str]]
    hand: list[str]
    other: list[str]

    def choose(self, truth: str = "truth", source: str | None = None, *annotators: str) -> Chosen:
        return choose(self.connection, truth=truth, source=source, annotators=annotators)


@pytest.fixture(scope="module")
def cast(scored: ScoredLake) -> Iterator[Cast]:
    """Datasets that differ in what they speak of, and models of which ``seen`` and ``newer`` are current."""
    hand, other = scored.hand, scored.other
    ids = {
        "truth": scored.truth([DOG, DOG]),
        "twice": scored.truth([DOG, DOG], "twice", stages=["tag"]),
        "twice, later": scored.truth([Answer(["cat"])], "twice", stages=["tag"], version=2),
        "places": scored.truth([DOG, DOG], "places"),
        "places, later": scored.truth([DOG], "places", ids=other, version=2),
        "broken": scored.truth([DOG, Answer(), FAILED], "broken", stages=["tag", "ground"]),
        "hopeless": scored.truth([FAILED, FAILED], "hopeless", stages=["tag"]),
        "everywhere": scored.truth([DOG, DOG], "everywhere", ids=[hand[0], *other], stages=["tag"]),
        "lonely": scored.truth([DOG], "lonely", ids=other, stages=["caption"]),
        "seen": scored.say("seen", [DOG, DOG], current="hand"),
        "newer": scored.say("newer", [DOG], ids=other, stages=["tag"], current="other"),
        "candidate": scored.say("candidate", [DOG, DOG]),
    }
    scored.add("annotators", annotator_id="embedder", stage="embed")
    with Snapshot.take(scored.lake).connect() as connection:
        yield Cast(connection, ids, hand, other)


def images(sides: Chosen, stage: str = "tag") -> set[str]:
    return {row["image_id"] for row in sides.scope.to_pylist() if row["stage"] == stage}


def test_a_dataset_is_the_truth_of_its_stages_and_the_current_annotators_are_scored(cast: Cast) -> None:
    found = cast.choose()
    assert {stage: one.annotator_id for stage, one in found.truth.items()} == cast.ids["truth"]
    assert {stage: one.annotator_id for stage, one in found.predicted.items()} == cast.ids["seen"]
    assert (found.stages, found.notes) == (("tag", "ground", "caption"), ())
    assert {(row["width"], row["height"]) for row in found.scope.to_pylist()} == {(40, 30)}


def test_ids_and_beginnings_of_them_name_both_sides(cast: Cast) -> None:
    right, candidate = cast.ids["truth"], cast.ids["candidate"]
    found = cast.choose(f"{right['tag'][:SHORT]}, {right['ground']}", None, candidate["tag"][:SHORT])
    assert found.stages == ("tag", "ground")
    assert (found.predicted["tag"].model, found.predicted["ground"].model) == ("candidate", "seen")
    assert found.notes == ("caption: not scored, there is no truth of it",)


def test_an_annotator_may_be_the_truth_and_a_dataset_scored(cast: Cast) -> None:
    found = cast.choose(cast.ids["seen"]["tag"], None, "truth")
    assert (found.truth["tag"].model, found.predicted["tag"].model) == ("seen", "truth")


def test_a_comparison_with_itself_is_said(cast: Cast) -> None:
    assert "is compared with itself" in cast.choose(cast.ids["seen"]["tag"]).notes[0]


def test_the_content_landed_last_is_the_truth_and_the_others_are_named(cast: Cast) -> None:
    found = cast.choose("twice")
    assert found.truth["tag"].annotator_id == cast.ids["twice, later"]["tag"]
    assert images(found) == {cast.hand[0]}
    assert f"landed last; not used: {cast.ids['twice']['tag'][:12]}" in found.notes[0]


def test_content_of_another_source_does_not_hide_that_of_this_one(cast: Cast) -> None:
    assert images(cast.choose("places", "hand")) == set(cast.hand[:2])
    assert images(cast.choose("places", "other")) == set(cast.other)


def test_a_failed_truth_is_counted_and_left_out(cast: Cast) -> None:
    found = cast.choose("broken")
    assert images(found) == set(cast.hand[:2])  # ok, and empty
    assert images(found, "ground") == set(cast.hand)
    assert found.truth_failed == {"tag": 1}


def test_a_stage_that_never_ran_is_not_scored_and_said(cast: Cast) -> None:
    found = cast.choose("places", "other")
    assert found.stages == ("tag",)
    assert found.notes == tuple(f"{stage}: not scored, no annotator ran for other" for stage in ("ground", "caption"))


class TestRefusals:
    def test_an_unknown_name_lists_what_there_is(self, cast: Cast) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown truth 'coco'; known: .*\(tag, seen\).*dataset truth"):
            cast.choose("coco")
        with pytest.raises(UnknownNameError, match=r"unknown annotator 'zz'; known: .*dataset twice"):
            cast.choose("truth", None, "zz")

    def test_a_beginning_that_fits_several_lists_them(self, cast: Cast) -> None:
        digits = [one[0] for ids in cast.ids.values() for one in ids.values()]  # more than there are hex digits
        twice = next(digit for digit in digits if digits.count(digit) > 1)
        with pytest.raises(UnknownNameError, match=f"annotator .ambiguous. '{twice}'; known: {twice}") as caught:
            cast.choose("truth", None, twice)
        assert caught.value.remedy == "give more digits"

    def test_an_empty_name_fits_nothing(self, cast: Cast) -> None:
        with pytest.raises(UnknownNameError, match="unknown truth ''"):
            cast.choose("truth,")

    def test_an_unknown_source_lists_the_known_ones(self, cast: Cast) -> None:
        with pytest.raises(UnknownNameError, match="known: hand, other"):
            cast.choose("truth", "news")

    def test_two_annotators_of_one_stage_are_too_many(self, cast: Cast) -> None:
        seen, candidate = cast.ids["seen"]["tag"], cast.ids["candidate"]["tag"]
        with pytest.raises(ConfigurationError, match="two of stage 'tag' are given as truth"):
            cast.choose(f"truth,{seen}")
        with pytest.raises(ConfigurationError, match="two of stage 'tag' are given as annotator"):
            cast.choose("truth", None, seen, candidate)

    def test_of_a_dataset_that_is_scored_one_content_must_be_chosen(self, cast: Cast) -> None:
        with pytest.raises(UnknownNameError, match=r"tag annotator .ambiguous. 'twice'; known: .*landed 2026"):
            cast.choose("truth", None, "twice")

    def test_a_stage_without_right_and_wrong_is_refused(self, cast: Cast) -> None:
        with pytest.raises(ConfigurationError, match="stage 'embed', which cannot be scored"):
            cast.choose("truth", None, "embedder")

    def test_sources_with_different_current_annotators_must_be_told_apart(self, cast: Cast) -> None:
        with pytest.raises(ConfigurationError, match="different current tag annotators") as caught:
            cast.choose("everywhere")
        assert "--source" in str(caught.value)
        assert cast.choose("everywhere", "other").predicted["tag"].model == "newer"

    def test_a_truth_of_no_image_of_the_source_is_nothing_to_score(self, cast: Cast) -> None:
        with pytest.raises(DataError, match="'truth' has no outcome of any image of source 'other'") as caught:
            cast.choose("truth", "other")
        assert caught.value.remedy

    def test_nobody_to_score_is_nothing_to_score(self, cast: Cast) -> None:
        with pytest.raises(
            DataError, match=r"nothing to score: .*caption: not scored, no annotator ran for other"
        ) as caught:
            cast.choose("lonely")
        assert "groundlake annotate run" in str(caught.value)

    def test_a_truth_that_has_only_failed_is_nothing_to_score(self, cast: Cast) -> None:
        with pytest.raises(DataError, match="the truth failed for all its 2 outcomes"):
            cast.choose("hopeless")
