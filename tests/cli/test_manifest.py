"""``groundlake manifest``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from handmade import Handmade, Picture, Thing

from etl.lake import Lake

Command = Callable[..., Any]
DOG = Picture(size=(80, 60), things=[Thing("dog", (10, 10, 50, 50), "a dog")], seed=1)
ALL = "select image_id from images"


@pytest.fixture
def hand(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Handmade:
    """A lake with one annotated picture, named by the environment."""
    hand = Handmade(lake)
    hand.annotate(hand.add(DOG), DOG, untrained=True)
    monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
    return hand


def test_sql_and_format_make_a_manifest_where_out_says(groundlake: Command, hand: Handmade, tmp_path: Path) -> None:
    ran = groundlake(
        "manifest", "build", "--sql", ALL, "--format", "coco", "--out", tmp_path / "data", "--name", "dogs"
    )
    (folder,) = (tmp_path / "data" / "dogs").iterdir()
    assert ran.code == 0
    assert str(folder) in ran.out
    assert "1 images (train 1), 1 annotations" in ran.out
    assert "untrained weights" in ran.out
    assert (folder / "annotations" / "instances_train.json").is_file()


def test_a_second_build_says_that_it_is_built(groundlake: Command, hand: Handmade) -> None:
    arguments = ("manifest", "build", "--sql", ALL, "--format", "jsonl")
    assert groundlake(*arguments).out.startswith("built: ")
    assert groundlake(*arguments).out.startswith("already built: ")


def test_options_and_splits_reach_the_format(groundlake: Command, hand: Handmade, tmp_path: Path) -> None:
    more = ("--option", "image_caption=generated", "--option", "pictures=true", "--split", "train=0.5,val=0.5")
    ran = groundlake("manifest", "build", "--sql", ALL, "--format", "jsonl", "--out", tmp_path, *more)
    assert ran.code == 0
    texts = [file.read_text() for file in sorted((tmp_path / "adhoc").rglob("*.jsonl"))]
    assert len(texts) == 2
    assert json.loads("".join(texts))["caption"] == "a generated caption"
    assert len(list(tmp_path.rglob("*.jpg"))) == 1


def test_a_manifest_of_the_catalog_is_built_by_its_name(
    groundlake: Command, hand: Handmade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog" / "manifests").mkdir(parents=True)
    (tmp_path / "catalog" / "manifests" / "all-dogs.yaml").write_text(f"format: instancediffusion\nsql: {ALL}\n")
    monkeypatch.setenv("GROUNDLAKE_CATALOG", str(tmp_path / "catalog"))
    assert groundlake("manifest", "build", "all-dogs").code == 0
    ran = groundlake("manifest", "list")
    assert "in the catalog: all-dogs (instancediffusion)" in ran.out
    (built,) = json.loads(groundlake("manifest", "list", "--json").out)
    assert (built["name"], built["n_images"], built["n_annotations"]) == ("all-dogs", 1, 1)
    assert (Path(hand.lake.uri) / built["path"] / "train.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ((), 78, "one of the two"),
        (("nothing",), 78, "unknown manifest 'nothing'"),
        (("--sql", ALL), 78, "--format is missing"),
        (("--sql", ALL, "--format", "yolo"), 78, "'instancediffusion', 'meta_json', 'coco' or 'jsonl'"),
        (("--sql", ALL, "--format", "coco", "--option", "quality"), 78, "expected key=value"),
        (("--sql", ALL, "--format", "coco", "--option", "quality=9"), 78, "allowed keys"),
        (("--sql", ALL, "--format", "coco", "--split", "train=0.5"), 78, "expected 1"),
        (("--sql", ALL, "--format", "coco", "--name", "../up"), 78, "pattern"),
        (("--sql", "drop table images", "--format", "coco"), 65, "exactly one SELECT"),
        (("--sql", f"{ALL} where width > 9999", "--format", "coco"), 65, "holds 1 images with 1 instances"),
    ],
)
def test_wrong_input_ends_with_its_code_and_the_reason(
    groundlake: Command, hand: Handmade, arguments: tuple[str, ...], code: int, part: str
) -> None:
    ran = groundlake("manifest", "build", *arguments)
    assert (ran.code, part in ran.err) == (code, True), ran.err


def test_an_empty_lake_says_what_to_do_first(groundlake: Command, lake: Lake) -> None:
    ran = groundlake("manifest", "build", "--sql", ALL, "--format", "coco", "--lake", lake.uri)
    assert (ran.code, "groundlake ingest run" in ran.err) == (65, True)
    assert "none was built yet" in groundlake("manifest", "list", "--lake", lake.uri).out
