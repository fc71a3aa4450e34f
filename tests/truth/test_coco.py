"""Reading COCO: what is right arrives as it was meant, what is wrong is the fault of its image and no other's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from truth_files import BALL, image, thing, write, write_captions

from etl.errors import DataError
from etl.truth.coco import read_coco
from etl.truth.model import Polygons, Runs, Truth, TruthImage


def read(folder: Any, images: list[Any], annotations: list[Any], **more: Any) -> Truth:
    return read_coco(write(folder, images, annotations, **more))


def fault(truth: Truth, number: int = 0) -> tuple[str, str]:
    found = truth.images[number].fault
    assert found is not None, "the image should have a fault"
    return found.reason, found.words


class TestWhatIsRight:
    def test_boxes_become_corners_and_labels_names(self, tmp_path):
        (one,) = read(tmp_path, [image(7)], [thing(7, (1, 2, 3.5, 4), BALL, caption=" a ball ")]).images

        (found,) = one.instances
        assert (one.name, one.url, one.width, one.height) == ("image 7", "http://web.test/7", 12, 10)
        assert (found.label, found.box, found.caption) == ("ball", (1.0, 2.0, 4.5, 6.0), "a ball")

    def test_tags_are_the_categories_unless_the_image_names_its_own(self, tmp_path):
        images = [image(1), image(2, tags=["red", "dog", "red"]), image(3, tags=[])]
        truth = read(tmp_path, images, [thing(1, category=BALL), thing(1), thing(1), thing(2), thing(3)])

        assert [one.tags for one in truth.images] == [("ball", "dog"), ("dog", "red"), ()]

    def test_a_segmentation_is_run_lengths_or_polygons_or_missing(self, tmp_path):
        masks = [
            {"size": [10, 12], "counts": "abc"},
            {"size": [10, 12], "counts": [120]},
            [[0, 0, 1, 0, 1, 1]],
            [],
            None,
        ]
        (one,) = read(tmp_path, [image(1)], [thing(1, segmentation=mask) for mask in masks]).images

        kinds = [type(found.mask) for found in one.instances]
        assert kinds == [Runs, Runs, Polygons, type(None), type(None)]

    def test_a_crowd_is_counted_and_gives_a_tag_but_no_instance(self, tmp_path):
        truth = read(tmp_path, [image(1)], [thing(1, iscrowd=1, segmentation="whatever"), thing(1, category=BALL)])

        assert truth.crowds == 1
        assert truth.images[0].tags == ("ball", "dog")
        assert [one.label for one in truth.images[0].instances] == ["ball"]

    def test_of_several_captions_the_first_is_taken_and_the_others_are_counted(self, tmp_path):
        captions = write_captions(tmp_path, (2, "two\n"), (1, "one"), (1, "uno"), (9, "of no image"))
        truth = read_coco(write(tmp_path, [image(1), image(2)]), captions)

        assert [one.caption for one in truth.images] == ["one", "two"]
        assert (truth.further_captions, truth.strays) == (1, 1)

    def test_annotations_of_no_image_are_counted(self, tmp_path):
        assert read(tmp_path, [image(1)], [thing(9), "nonsense", {"image_id": [1]}]).strays == 3

    def test_a_box_that_touches_the_border_by_rounding_is_clipped(self, tmp_path):
        (one,) = read(tmp_path, [image(1)], [thing(1, (-0.2, 0, 12.5, 10.4))]).images

        assert one.instances[0].box == (0, 0, 12, 10)

    def test_an_image_is_known_by_its_id_in_the_lake_or_a_file_name_that_is_a_url(self, tmp_path):
        known, named = image(1, groundlake_image_id="ab" * 16), image(2)
        named |= {"coco_url": None, "file_name": "https://web.test/a.jpg"}
        nowhere = image(3) | {"coco_url": ""}
        found = read(tmp_path, [known, named, nowhere], []).images

        assert [(one.image_id, one.url) for one in found[1:]] == [(None, "https://web.test/a.jpg"), (None, None)]
        assert found[0].image_id == "ab" * 16

    @pytest.mark.parametrize(
        ("content", "stages"),
        [
            ({}, ("tag", "ground")),
            ({"annotations": [thing(1, caption="a dog")]}, ("tag", "ground", "caption")),
            ({"categories": [], "images": [image(1, tags=["dog"])]}, ("tag",)),
        ],
        ids=["categories", "captions of instances", "tags alone"],
    )
    def test_a_file_speaks_of_what_it_has(self, tmp_path, content, stages):
        path = write(tmp_path, [image(1)])
        path.write_text(json.dumps(json.loads(path.read_text()) | content))

        assert read_coco(path).stages == stages

    def test_the_digest_is_that_of_all_files_and_of_nothing_else(self, tmp_path):
        path = write(tmp_path, [image(1)])
        alone, moved = read_coco(path).sha256, read_coco(path.rename(tmp_path / "other.json")).sha256
        both = read_coco(tmp_path / "other.json", write_captions(tmp_path, (1, "one"))).sha256

        assert alone == moved != both
        assert len(both) == 64


GOOD = thing(2)


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("broken", "reason", "words"),
        [
            ({"bbox": [0, 0, 13, 5]}, "bad_box", "leaves its image of 12x10 pixels"),
            ({"bbox": [-3, 0, 5, 5]}, "bad_box", "leaves its image"),
            ({"bbox": [1, 1, 0, 5]}, "bad_box", "no area"),
            ({"bbox": [5, 5, -2, 3]}, "bad_box", "no area"),
            ({"bbox": [12, 0, 0.4, 5]}, "bad_box", "no area inside"),
            ({"bbox": [1, 1, float("nan"), 5]}, "bad_box", "four finite numbers"),
            ({"bbox": [1, 1, float("inf"), 5]}, "bad_box", "four finite numbers"),
            ({"bbox": [1, 1, 10**400, 5]}, "bad_box", "four finite numbers"),
            ({"bbox": [1, 1, "3", 5]}, "bad_box", "four finite numbers"),
            ({"bbox": [1, 1, 3]}, "bad_box", "four finite numbers"),
            ({"bbox": None}, "bad_box", "bbox None"),
            ({"category_id": 99}, "unknown_category", "category_id 99"),
            ({"category_id": [1]}, "unknown_category", "is no category"),
            ({"category_id": 5}, "unknown_category", "has no name"),
            ({"category_id": 6}, "unknown_category", "of several categories"),
            ({"iscrowd": 2}, "bad_annotation", "iscrowd 2"),
            ({"id": [3]}, "bad_annotation", "id [3]"),
            ({"caption": 3}, "bad_caption", "caption 3"),
            ({"caption": "  "}, "bad_caption", "expected a text with words"),
            ({"caption": "\ud800"}, "bad_caption", "expected a text"),
            ({"segmentation": "abc"}, "bad_mask", "expected run lengths or a list of outlines"),
            ({"segmentation": {"counts": "abc"}}, "bad_mask", "size None"),
            ({"segmentation": {"size": [10, 0], "counts": "abc"}}, "bad_mask", "expected height and width"),
            ({"segmentation": {"size": [10, 12], "counts": [1.5]}}, "bad_mask", "expected a text or whole numbers"),
            ({"segmentation": [[1, 2, "3", 4, 5, 6]]}, "bad_mask", "an outline"),
            ({"segmentation": [7]}, "bad_mask", "an outline 7"),
        ],
    )
    def test_an_annotation_fails_its_image_by_name_and_no_other(self, tmp_path, broken, reason, words):
        categories = [{"id": 1, "name": "dog"}, {"id": 5}, {"id": 6, "name": "a"}, {"id": 6, "name": "b"}, "nonsense"]
        truth = read(tmp_path, [image(1), image(2)], [GOOD, thing(1) | broken], categories=categories)

        told = fault(truth)
        assert told[0] == reason
        assert words in told[1]
        assert told[1].startswith("annotations[1]: " if "id" in broken else "annotation 2: ")
        assert truth.images[1].fault is None

    @pytest.mark.parametrize(
        ("broken", "reason", "words"),
        [
            ({"width": None}, "bad_image", "image 1: width None and height 10, expected pixels"),
            ({"height": 0.5}, "bad_image", "height 0.5"),
            ({"tags": "dog"}, "bad_tags", "image 1: tags 'dog'"),
            ({"tags": ["dog", ""]}, "bad_tags", "expected a list of texts"),
            ({"groundlake_image_id": "AB"}, "bad_image", "expected 32 hex digits"),
            ({"id": None}, "bad_image", "images[0]"),
        ],
    )
    def test_an_image_fails_by_itself(self, tmp_path, broken, reason, words):
        truth = read(tmp_path, [image(1) | broken, image(2)], [GOOD])

        assert fault(truth)[0] == reason
        assert words in fault(truth)[1]
        assert truth.images[1].fault is None

    def test_an_image_that_is_no_mapping_stays_in_the_count(self, tmp_path):
        truth = read(tmp_path, ["nonsense", image(2)], [GOOD])

        assert len(truth.images) == 2
        assert fault(truth)[0] == "bad_image"

    def test_an_annotation_id_that_is_there_twice_fails_both_images(self, tmp_path):
        truth = read(tmp_path, [image(1), image(2), image(3)], [thing(1, id=8), thing(2, id=8), thing(3, id=9)])

        assert fault(truth, 0) == fault(truth, 1) == ("duplicate_id", "annotation 8: its id is there twice")
        assert truth.images[2].fault is None

    def test_an_image_id_that_is_there_twice_fails_both_images(self, tmp_path):
        truth = read(tmp_path, [image(1), image(2), image(1, url="http://web.test/other")], [thing(1), GOOD])

        assert fault(truth, 0) == fault(truth, 2) == ("duplicate_id", "images[0] and images[2] have the same id")
        assert truth.images[1].fault is None

    @pytest.mark.parametrize("caption", ["", None, 7], ids=["blank", "null", "number"])
    def test_a_caption_without_words_fails_its_image(self, tmp_path, caption):
        truth = read_coco(write(tmp_path, [image(1), image(2)]), write_captions(tmp_path, (2, "two"), (1, caption)))

        assert fault(truth)[0] == "bad_caption"
        assert fault(truth)[1].startswith("caption annotation 2: ")
        assert truth.images[1].caption == "two"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "is not JSON"),
            ("\xff", "is not JSON"),
            ("[" * 100_000, "is not JSON"),
            ("[]", "has no images and no annotations"),
            ('{"images": [], "categories": []}', "has no annotations"),
            ('{"images": {}, "annotations": []}', "expected a list"),
            ('{"images": [], "annotations": []}', "holds no image"),
            ('{"images": [{"id": 1}], "annotations": []}', "holds no category, tag or caption"),
            ('{"images": [{"id": 1}], "annotations": [{"caption": "a"}]}', "but no categories"),
        ],
    )
    def test_a_file_that_is_no_coco_is_refused_with_the_way_out(self, tmp_path, text, words):
        path = tmp_path / "file.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=words) as caught:
            read_coco(path)

        assert "file.json" in str(caught.value)
        assert caught.value.remedy

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r"cannot read none\.json: No such file"):
            read_coco(Path("none.json"))


def test_equal_images_say_the_same_whatever_they_are_called(tmp_path):
    truth = read(tmp_path, [image(1), image(2), image(3)], [thing(1), thing(2), thing(3, (1, 2, 3, 5))])
    one, same, other = truth.images

    assert isinstance(one, TruthImage)
    assert one == same != other
