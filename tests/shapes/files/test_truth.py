"""Truth files are COCO: what pycocotools reads out of them is what the scenes hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from etl.shapes.files.site import Served, write_scenes
from etl.shapes.files.truth import TruthFiles, write_truth
from etl.shapes.world.splits import numbered_scene
from etl.shapes.world.words import SHAPES

BASE = "http://127.0.0.1:8123/pictures"
NUMBERS = (3, 4, 11)


@pytest.fixture
def served(tmp_path: Path) -> list[Served]:
    return write_scenes(tmp_path / "site", BASE, NUMBERS)


@pytest.fixture
def files(served: list[Served], tmp_path: Path) -> TruthFiles:
    empty = f"{BASE}/empty.png", numbered_scene("test", 1, count=0)
    return write_truth(tmp_path / "truth", [*((one.url, one.scene) for one in served), empty])


def test_images_are_named_by_their_url_and_carry_size_and_tags(files: TruthFiles, served: list[Served]) -> None:
    images = json.loads(files.instances.read_text())["images"]
    for image, one in zip(images, served, strict=False):
        assert (image["coco_url"], image["file_name"]) == (one.url, one.path.name)
        assert (image["height"], image["width"]) == one.scene.pixels.shape[:2]
        assert image["tags"] == one.scene.tags
    assert images[-1]["tags"] == []


def test_masks_boxes_and_phrases_are_those_of_the_visible_instances(files: TruthFiles, served: list[Served]) -> None:
    dataset = COCO(str(files.instances))
    assert [category["name"] for category in dataset.dataset["categories"]] == sorted(SHAPES)
    for number, one in enumerate(served, 1):
        found = dataset.loadAnns(dataset.getAnnIds(imgIds=[number]))
        assert len(found) == len(one.scene.instances)
        for annotation, instance in zip(found, one.scene.instances, strict=True):
            assert np.array_equal(dataset.annToMask(annotation).astype(bool), instance.mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == instance.box
            assert dataset.cats[annotation["category_id"]]["name"] == instance.shape
            assert (annotation["caption"], annotation["iscrowd"]) == (instance.phrase, 0)
            assert annotation["area"] == instance.mask.sum()


def test_every_image_has_its_sentence(files: TruthFiles, served: list[Served]) -> None:
    captions = {one["image_id"]: one["caption"] for one in json.loads(files.captions.read_text())["annotations"]}
    assert captions == {n: one.scene.sentence for n, one in enumerate(served, 1)} | {4: "no shapes"}


def test_the_same_pictures_give_the_same_bytes(files: TruthFiles, served: list[Served], tmp_path: Path) -> None:
    pairs = [*((one.url, one.scene) for one in served), (f"{BASE}/empty.png", numbered_scene("test", 1, count=0))]
    again = write_truth(tmp_path / "again", pairs)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]


def test_scenes_of_a_site_are_numbered_files_under_its_url(served: list[Served]) -> None:
    assert [one.path.stem for one in served] == ["0003", "0004", "0011"]
    assert [one.url for one in served] == [f"{BASE}/{one.path.name}" for one in served]
    assert [one.scene.tags for one in served] == [numbered_scene("test", number).tags for number in NUMBERS]
