"""Each format is read back by a small reader written from its trainer's rules, and compared with the known truth."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import Handmade, Picture, Thing, rectangle, vector
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from etl.errors import ConfigurationError
from etl.lake import Lake
from etl.manifests.builder import BuiltManifest, build_manifest
from etl.manifests.empty import EmptyManifestError
from etl.settings import ManifestSpec, Settings

LANDSCAPE = Picture(
    size=(640, 480),
    things=[
        Thing("dog", (100, 80, 300, 400), "a brown dog on grass", score=0.9),
        Thing("box", (320, 100, 600, 300), "something blue", score=0.8),
        Thing("ball", (10, 10, 30, 30), "ball", flag="label", score=0.7),
    ],
    seed=1,
)
TURNED = Picture(size=(360, 500), things=[Thing("dog", (40, 60, 200, 460), "a dog")], orientation=6, seed=2)
EXACT = Picture(size=(700, 512), things=[Thing("box", (50, 50, 650, 450), "loop loop loop", flag="loop")], seed=3)
TRANSPARENT = Picture(size=(300, 200), things=[Thing("ball", (20, 20, 180, 180), "a red ball")], format="PNG", seed=4)
NOTHING = Picture(size=(320, 320), seed=5)
PICTURES = [LANDSCAPE, TURNED, EXACT, TRANSPARENT, NOTHING]


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Handmade:
    """One lake for the module: these tests only read it."""
    folder = tmp_path_factory.mktemp("formats")
    hand = Handmade(Lake.create(str(folder / "lake"), Settings(scratch=folder / "scratch")))
    hand.annotate(hand.add(*PICTURES), *PICTURES)
    return hand


def build(hand: Handmade, fmt: str, sql: str = "select image_id from images", **more: Any) -> BuiltManifest:
    spec = ManifestSpec.model_validate({"name": f"as-{fmt}", "sql": sql, "format": fmt, **more})
    return build_manifest(hand.lake, spec)


def known(hand: Handmade, image_id: str) -> Picture:
    return PICTURES[hand.ids.index(image_id)]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


class TestInstanceDiffusion:
    """The rules of its JsonDataset and decode_item."""

    @pytest.fixture(scope="class")
    def built(self, hand: Handmade) -> BuiltManifest:
        return build(hand, "instancediffusion")

    @pytest.fixture(scope="class")
    def read(self, built: BuiltManifest) -> dict[str, dict[str, Any]]:
        """As the loader does: each line of train.txt joined with root_dir."""
        lines = (built.folder / "train.txt").read_text().splitlines()
        return {Path(line).stem: json.loads((built.folder / line).read_text()) for line in lines}

    def test_every_image_with_objects_is_listed_once(self, hand: Handmade, built: BuiltManifest, read: Any) -> None:
        assert set(read) == set(hand.ids[:4])
        assert built.dropped == {"too_few_instances": 1}

    def test_pictures_have_a_short_side_of_512_and_are_upright(self, hand: Handmade, read: Any) -> None:
        for image_id, content in read.items():
            picture = Image.open(io.BytesIO(base64.b64decode(content["image"])))
            truth = known(hand, image_id).upright()
            assert min(picture.size) == 512
            assert abs(picture.width / picture.height - truth.width / truth.height) < 0.01
            assert picture.mode == "RGB"
            assert picture.getexif().get(0x0112, 1) == 1
            small = [np.asarray(one.convert("RGB").resize((64, 64)), dtype=float) for one in (picture, truth)]
            assert np.abs(small[0] - small[1]).mean() < 4

    def test_a_picture_that_fits_keeps_its_stored_bytes(self, hand: Handmade, read: Any) -> None:
        assert base64.b64decode(read[hand.ids[2]]["image"]) == EXACT.encoded()

    def test_masks_and_boxes_fit_the_resampled_picture(self, hand: Handmade, read: Any) -> None:
        for image_id, content in read.items():
            truth = known(hand, image_id)
            size = Image.open(io.BytesIO(base64.b64decode(content["image"]))).size
            scale = size[0] / truth.size[0], size[1] / truth.size[1]
            things = {thing.label: thing for thing in truth.things}
            for anno in [one for one in content["annos"] if one["category_name"]]:
                x1, y1, x2, y2 = things[anno["category_name"]].box
                scaled = (x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1])
                mask = rle.decode(anno["mask"]).astype(bool)
                assert mask.shape == (size[1], size[0])
                assert iou(mask, rectangle(size, scaled)) > 0.98
                x, y, width, height = anno["bbox"]
                assert np.allclose([x, y, x + width, y + height], scaled, atol=1)
                assert anno["area"] == width * height

    def test_embeddings_decode_to_those_of_label_and_caption(self, hand: Handmade, read: Any) -> None:
        annos = {one["category_name"]: one for one in read[hand.ids[0]]["annos"]}
        for label, text in (("dog", "a brown dog on grass"), ("box", "box. something blue")):
            for key, of in (("text_embedding_before", label), ("blip_clip_embeddings", text)):
                decoded = np.frombuffer(base64.b64decode(annos[label][key]), dtype="<f4")
                assert np.array_equal(decoded, vector(of))

    def test_objects_without_a_description_have_no_caption_embedding(self, hand: Handmade, read: Any) -> None:
        for image_id, label in ((hand.ids[0], "ball"), (hand.ids[2], "box")):
            anno = next(one for one in read[image_id]["annos"] if one["category_name"] == label)
            assert anno["caption"] == ""
            assert "blip_clip_embeddings" not in anno

    def test_no_file_has_exactly_one_annotation(self, hand: Handmade, built: BuiltManifest, read: Any) -> None:
        """With one the loader squeezes its mask to zeros; the second must pass below its limit of 1 % of the area."""
        assert [len(read[image_id]["annos"]) for image_id in hand.ids[:4]] == [3, 2, 2, 2]
        dummy = read[hand.ids[1]]["annos"][1]
        assert dummy["bbox"] == [0, 0, 1, 1]
        assert rle.decode(dummy["mask"]).sum() == 1
        assert "blip_clip_embeddings" not in dummy
        assert len(base64.b64decode(dummy["text_embedding_before"])) == 4 * len(vector("dog"))
        assert built.lock["counts"]["notes"]["dummy_annotations"] == 3

    def test_masks_are_there_for_all_annotations(self, read: Any) -> None:
        assert all(isinstance(one["mask"]["counts"], str) for content in read.values() for one in content["annos"])

    def test_captions_are_present(self, read: Any) -> None:
        assert {content["caption"] for content in read.values()} == {"as found on the web"}
        assert {content["is_det"] for content in read.values()} == {0}

    def test_absolute_paths_name_the_final_folder(self, hand: Handmade) -> None:
        built = build(hand, "instancediffusion", options={"paths": "absolute"})
        lines = (built.folder / "train.txt").read_text().splitlines()
        assert all(Path(line).is_file() and Path(line).is_absolute() for line in lines)

    def test_an_image_without_embeddings_is_dropped_and_counted(self, lake: Lake) -> None:
        hand = Handmade(lake)
        hand.annotate(hand.add(LANDSCAPE), LANDSCAPE, embed=False)
        with pytest.raises(EmptyManifestError, match="no_embedding 1"):
            build(hand, "instancediffusion")

    def test_a_strip_that_would_blow_up_is_dropped(self, lake: Lake) -> None:
        hand, strip = Handmade(lake), Picture(size=(2000, 20), things=[Thing("dog", (0, 0, 900, 20), "a dog")])
        hand.annotate(hand.add(strip, TURNED), strip, TURNED)
        assert build(hand, "instancediffusion").dropped == {"aspect_ratio": 1}


class TestMetaJson:
    """The rules of rich-context L2I's CC3MSyntheticDataset."""

    @pytest.fixture(scope="class")
    def built(self, hand: Handmade) -> BuiltManifest:
        return build(hand, "meta_json", split={"shares": {"train": 0.5, "val": 0.5}})

    @pytest.fixture(scope="class")
    def read(self, built: BuiltManifest) -> list[tuple[Path, dict[str, Any], dict[str, Any]]]:
        """Picture, side file and label file; only the last three and two parts of the paths count."""
        found = []
        for name in ("meta.json", "meta_val.json"):
            for image, label in json.loads((built.folder / name).read_text()):
                picture = built.folder.joinpath(*Path(image).parts[-3:])
                content = json.loads((built.folder / "labels").joinpath(*Path(label).parts[-2:]).read_text())
                found.append((picture, json.loads(picture.with_suffix(".json").read_text()), content))
        return found

    def test_every_image_is_listed_once_over_the_splits(self, hand: Handmade, read: Any) -> None:
        assert sorted(side["image_id"] for _, side, _ in read) == sorted(hand.ids[:4])

    def test_the_loader_can_find_pictures_by_itself(self, built: BuiltManifest, read: Any) -> None:
        """It walks the label files and takes the digits behind the last underscore."""
        found = set()
        for label in (built.folder / "labels").rglob("*.json"):
            digits = label.stem.split("_")[-1]
            found.add(built.folder / "cc3m-images" / f"{int(digits) // 10000:05d}" / f"{digits}.jpg")
        assert found == {picture for picture, _, _ in read}

    def test_equal_original_sides_switch_off_the_cutting_of_borders(self, read: Any) -> None:
        assert all(side["original_width"] == side["original_height"] for _, side, _ in read)

    def test_pictures_are_upright_three_channel_jpeg(self, hand: Handmade, read: Any) -> None:
        for picture, side, _ in read:
            image = Image.open(picture)
            truth = known(hand, side["image_id"])
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", truth.size)
            assert image.getexif().get(0x0112, 1) == 1

    def test_boxes_are_xywh_and_every_object_has_a_caption(self, hand: Handmade, read: Any) -> None:
        for _, side, content in read:
            truth = {thing.label: thing for thing in known(hand, side["image_id"]).things}
            assert content["caption"]
            assert {one["category_name"] for one in content["annos"]} == set(truth)
            for one in content["annos"]:
                x1, y1, x2, y2 = truth[one["category_name"]].box
                assert one["bbox"] == [x1, y1, x2 - x1, y2 - y1]
                assert one["caption"]

    def test_a_small_or_degenerate_crop_is_described_by_its_label(self, read: Any) -> None:
        captions = {one["category_name"]: one["caption"] for _, s, c in read for one in c["annos"] if s["width"] == 700}
        assert captions == {"box": "box"}

    def test_an_empty_split_is_an_empty_list(self, hand: Handmade) -> None:
        sql = f"select image_id from images where image_id = '{hand.ids[0]}'"
        built = build(hand, "meta_json", sql, split={"shares": {"train": 0.5, "val": 0.5}})
        lists = [json.loads((built.folder / name).read_text()) for name in ("meta.json", "meta_val.json")]
        assert sorted(len(one) for one in lists) == [0, 1]


class TestCoco:
    """Read by pycocotools itself."""

    @pytest.fixture(scope="class")
    def built(self, hand: Handmade) -> BuiltManifest:
        return build(hand, "coco", split={"shares": {"train": 1.0}})

    @pytest.fixture(scope="class")
    def api(self, built: BuiltManifest) -> COCO:
        return COCO(str(built.folder / "annotations" / "instances_train.json"))

    def test_masks_areas_and_boxes_are_the_known_ones(self, hand: Handmade, api: COCO) -> None:
        assert len(api.anns) == 6
        for annotation in api.anns.values():
            image = api.imgs[annotation["image_id"]]
            truth = known(hand, image["groundlake_image_id"])
            thing = next(t for t in truth.things if t.label == api.cats[annotation["category_id"]]["name"])
            mask = api.annToMask(annotation)
            assert mask.shape == (image["height"], image["width"])
            assert iou(mask.astype(bool), rectangle(truth.size, thing.box)) == 1.0
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == rle.toBbox(annotation["segmentation"]).tolist()
            assert annotation["iscrowd"] == 0

    def test_categories_are_numbered_by_name(self, api: COCO) -> None:
        assert [(one["id"], one["name"]) for one in api.dataset["categories"]] == [(1, "ball"), (2, "box"), (3, "dog")]

    def test_images_without_objects_stay_as_negatives(self, hand: Handmade, api: COCO) -> None:
        assert {one["groundlake_image_id"] for one in api.imgs.values()} == set(hand.ids)

    def test_only_turned_pictures_are_encoded_again(self, hand: Handmade, built: BuiltManifest, api: COCO) -> None:
        for image in api.imgs.values():
            file = built.folder / "images" / "train" / image["file_name"]
            truth = known(hand, image["groundlake_image_id"])
            assert Image.open(file).size == (image["width"], image["height"])
            assert (file.read_bytes() == truth.encoded()) == (truth.orientation == 1)
        assert built.lock["counts"]["notes"]["pictures_encoded_again"] == 1

    def test_captions_have_a_file_of_their_own(self, built: BuiltManifest) -> None:
        api = COCO(str(built.folder / "annotations" / "captions_train.json"))
        assert len(api.anns) == 5
        assert {one["caption"] for one in api.anns.values()} == {"as found on the web"}


class TestJsonl:
    """One line holds everything."""

    def test_boxes_are_xyxy_and_masks_decode_to_the_picture(self, hand: Handmade) -> None:
        built = build(hand, "jsonl")
        for line in (json.loads(text) for text in (built.folder / "train.jsonl").read_text().splitlines()):
            truth = known(hand, line["image_id"])
            things = {thing.label: thing for thing in truth.things}
            assert (line["width"], line["height"]) == truth.size
            assert line["outcomes"]["ground"] == ("ok" if things else "empty")
            assert {tag["tag"] for tag in line["tags"]} == set(things)
            for one in line["instances"]:
                assert tuple(one["box"]) == things[one["label"]].box
                assert iou(rle.decode(one["mask"]).astype(bool), rectangle(truth.size, tuple(one["box"]))) == 1.0

    def test_the_stored_bytes_can_be_read_from_the_lake(self, hand: Handmade) -> None:
        built = build(hand, "jsonl")
        line = json.loads((built.folder / "train.jsonl").read_text().splitlines()[0])
        data = hand.lake.store.read_range(**{"key" if k == "tar" else k: v for k, v in line["stored"].items()})
        assert data == known(hand, line["image_id"]).encoded()

    def test_pictures_come_along_when_asked_for(self, hand: Handmade) -> None:
        built = build(hand, "jsonl", options={"pictures": True})
        for line in (json.loads(text) for text in (built.folder / "train.jsonl").read_text().splitlines()):
            assert Image.open(built.folder / line["file_name"]).size == (line["width"], line["height"])

    def test_a_wrong_option_lists_the_known_ones(self, hand: Handmade) -> None:
        with pytest.raises(ConfigurationError, match="jpeg_quality"):
            build(hand, "jsonl", options={"quality": 3})
