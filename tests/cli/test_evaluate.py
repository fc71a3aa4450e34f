"""``groundlake eval``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scored_lake import Answer, Object, ScoredLake, add_pictures

from etl.lake import Lake
from etl.settings import Settings

Command = Callable[..., Any]
DOG = Answer(["dog"], [Object("dog", (8, 6, 20, 20), caption="a dog")], "one dog")
WRONG = Answer(["cat"], [Object("cat", (8, 6, 20, 20), mask=(8, 6, 14, 20), caption="a cat")], "one cat")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lake where the current annotators are right about one of two images."""
    folder = tmp_path_factory.mktemp("eval")
    lake = Lake.create(str(folder / "lake"), Settings(scratch=folder / "scratch"))
    add_pictures(lake)
    scored = ScoredLake(lake)
    scored.truth([DOG, DOG])
    scored.say("seen", [DOG, WRONG], current="hand")
    return scored.lake.uri


def test_a_table_of_all_scores_and_what_was_compared(groundlake: Command, place: str) -> None:
    ran = groundlake("eval", "--truth", "truth", "--lake", place)
    assert ran.code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in ran.out.splitlines() if "│" in line]
    assert ["tags", "f1", "0.5000", "2"] in rows
    assert ["masks", "mean_iou", "0.7500", "2"] in rows  # a whole mask and half of one
    assert ["captions.instances", "word_f1", "0.7500", "2"] in rows  # 1, and one of two words
    assert "2 images" in ran.out
    assert "ground: seen " in ran.out


def test_a_class_map_renames_labels_and_json_is_all_that_is_printed(
    groundlake: Command, place: str, tmp_path: Path
) -> None:
    (tmp_path / "map.yaml").write_text("{classes: {cat: dog}, groups: {pets: [dog]}}")
    ran = groundlake("eval", "--truth", "truth", "--classes", tmp_path / "map.yaml", "--json", "-", "--lake", place)
    assert json.loads(ran.out)["tags"]["groups"]["pets"]["f1"] == 1.0
    assert "tags.groups.pets" in ran.err


def test_scores_and_the_worst_images_are_written_to_files(groundlake: Command, place: str, tmp_path: Path) -> None:
    files = ("--json", tmp_path / "new" / "scores.json", "--picture", tmp_path / "worst.png", "--limit", 1)
    ran = groundlake("eval", "--truth", "truth", *files, "--lake", place)
    assert "scores: " in ran.out
    assert json.loads((tmp_path / "new" / "scores.json").read_text())["masks"]["mean_iou"] == 0.75
    assert "1 worst images: " in ran.out
    assert Image.open(tmp_path / "worst.png").format == "PNG"


def test_a_score_below_its_least_value_ends_with_65_and_its_name(groundlake: Command, place: str) -> None:
    least = ("tags.f1=0.6", "masks.mean_iou=0.9", "boxes.ap=0.1", "boxes.classes.cat.ap=0", "images.evaluated=2")
    ran = groundlake("eval", "--truth", "truth", "--lake", place, *(word for one in least for word in ("--min", one)))
    assert ran.code == 65
    assert "tags.f1 is 0.5000, expected 0.6; masks.mean_iou is 0.7500, expected 0.9" in ran.err
    assert "boxes.classes.cat.ap is without a value, expected 0" in ran.err
    assert "boxes.ap is" not in ran.err
    assert "masks" in ran.out, "the table is shown all the same"


def test_scores_that_are_high_enough_end_well(groundlake: Command, place: str) -> None:
    assert groundlake("eval", "--truth", "truth", "--min", "tags.f1=0.5", "--lake", place).code == 0


@pytest.mark.parametrize("wrong", ["tags.f1", "tags.f1=high", "=0.5", "tags.f1=nan"])
def test_a_least_value_that_is_none_is_refused_before_any_work(groundlake: Command, wrong: str) -> None:
    ran = groundlake("eval", "--truth", "truth", "--min", wrong, "--lake", "nowhere")
    assert (ran.code, "expected SCORE=VALUE" in ran.err) == (78, True)


def test_unknown_names_list_the_known_ones(groundlake: Command, place: str) -> None:
    for arguments, known in (
        (("--truth", "coco"), "dataset truth"),
        (("--truth", "truth", "--min", "f1=1"), "tags.f1"),
    ):
        ran = groundlake("eval", *arguments, "--lake", place)
        assert (ran.code, known in ran.err) == (78, True)


def test_nothing_to_score_is_bad_data_with_the_way_out(groundlake: Command, place: str) -> None:
    ran = groundlake("eval", "--truth", "truth", "--source", "other", "--lake", place)
    assert (ran.code, "nothing to score" in ran.err, "-> " in ran.err) == (65, True, True)
