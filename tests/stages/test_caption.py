"""The stage caption."""

from pathlib import Path
from typing import Any

import pytest
from real_models import item, loaded_stage, model_store
from tiny_captioners import qwen_folder

from etl.errors import ConfigurationError
from etl.models.blip2 import Caption
from etl.settings import ModelEntry, load_catalog
from etl.stages.annotators import annotator_of
from etl.stages.caption import RICH_CONTEXT, CaptionStage, crops_of, degenerate
from etl.stages.contract import Row, WorkItem


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> CaptionStage:
    return loaded_stage("caption", tmp_path_factory.mktemp("models"))


def instance(number: int, x1: float, y1: float, x2: float, y2: float, label: str = "dog") -> Row:
    return {"instance_id": f"{number:032d}", "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2}


def instructed(weights: str = "file:/nowhere", **options: Any) -> ModelEntry:
    """A model whose captioner is told what to say."""
    network = {"family": "qwen-vl", "weights": weights}
    return ModelEntry(name="told", stage="caption", networks={"captioner": network}, options=options)


def with_instances(seed: int, width: int = 200, height: int = 150) -> WorkItem:
    rows = [instance(2, 0, 0, 31, 31, "tiny cup"), instance(1, 10.9, 5.5, 90.9, 70.2), instance(3, 0, 0, width, height)]
    return item(seed, width, height, instances=rows)


def test_the_picture_and_every_instance_get_a_caption(stage: CaptionStage):
    (result,) = stage.process([with_instances(0)])
    rows = result.rows["captions"]
    assert result.status == "ok"
    assert [row["instance_id"] for row in rows] == [None, *(f"{n:032d}" for n in (1, 2, 3))]
    assert result.value == [[row["instance_id"], row["caption"]] for row in rows]
    assert all(row["score"] <= 0 for row in rows if row["flag"] != "label")


def test_a_crop_below_1024_pixels_is_called_by_its_label(stage: CaptionStage):
    (result,) = stage.process([with_instances(0)])
    small = result.rows["captions"][2]
    assert small == {"instance_id": f"{2:032d}", "caption": "tiny cup", "score": None, "flag": "label"}


def test_crops_are_cut_at_whole_pixels():
    one = with_instances(0)
    crops = crops_of(one, one.picture)
    assert [(key, crop.size) for key, crop in crops] == [
        (None, (200, 150)),
        (f"{1:032d}", (80, 65)),
        (f"{3:032d}", (200, 150)),
    ]
    assert crops[1][1].getpixel((0, 0)) == one.picture.getpixel((10, 5))


def test_a_picture_without_instances_still_gets_its_caption(stage: CaptionStage):
    (result,) = stage.process([item(0, instances=[])])
    assert [row["instance_id"] for row in result.rows["captions"]] == [None]


def test_results_do_not_depend_on_batch_mates_or_the_order_of_rows(stage: CaptionStage):
    items = [with_instances(1), item(2, 90, 60), with_instances(3, 90, 200)]
    alone = [stage.process([one])[0] for one in items]
    turned = [
        WorkItem(i.image_id, i.shard_id, i.width, i.height, i.picture, {k: v[::-1] for k, v in i.upstream.items()})
        for i in items[::-1]
    ]
    for results in (stage.process(items), stage.process(turned)[::-1]):
        assert [result.value for result in results] == [result.value for result in alone]
        for result, single in zip(results, alone, strict=True):
            scores, own = ([row["score"] for row in one.rows["captions"]] for one in (result, single))
            assert [s or 0 for s in scores] == pytest.approx([s or 0 for s in own], abs=2e-4)


def test_captions_differ_between_crops_of_one_picture(stage: CaptionStage):
    captions = {
        row["caption"] for seed in range(6) for row in stage.process([with_instances(seed)])[0].rows["captions"]
    }
    assert len(captions) > 3


def test_scores_that_are_not_finite_are_a_failed_outcome(stage: CaptionStage, monkeypatch: pytest.MonkeyPatch):
    nan = [Caption("a dog", float("nan"))] * 3
    monkeypatch.setattr(stage.captioner, "captions", lambda *_, **__: nan)
    (result,) = stage.process([with_instances(0)])
    assert (result.status, result.reason) == ("failed", "not_finite")


@pytest.mark.parametrize(
    ("text", "prompt", "flag"),
    [
        ("", "", "empty"),
        ("  . _ ", "", "empty"),
        ("a photo of", "a photo of", "echo"),
        ("Photo of.", "a photo of", "echo"),
        ("a photo of a dog", "a photo of", None),
        ("dog dog dog", "", "loop"),
        ("a dog and a cat and a cat and a cat", "", "loop"),
        ("dog dog and cat cat", "", None),
        ("a red dog near a red house", "", None),
        ("ein Hund läuft", "", None),
        ("犬", "", None),
    ],
)
def test_degenerate_captions_are_flagged(text: str, prompt: str, flag: str | None):
    assert degenerate(text, prompt) == flag


class TestInstructed:
    def test_it_asks_what_the_rich_context_pipeline_asks_unless_told_otherwise(self):
        options = CaptionStage(instructed()).options
        assert options.prompt == RICH_CONTEXT
        assert (options.beams, options.max_new_tokens) == (1, 128)
        assert (options.min_pixels, options.max_pixels) == (65536, 262144)
        assert CaptionStage(instructed(prompt="Name it.")).options.prompt == "Name it."

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"min_pixels": 500, "max_pixels": 400}, "min_pixels 500 is more than max_pixels 400"),
            ({"max_pixels": 0}, "options of model 'told': max_pixels: got 0"),
            ({"prompt": ""}, "options of model 'told': prompt: got ''"),
            ({"temperature": 1}, "allowed keys: prompt, beams, max_new_tokens, min_pixels, max_pixels"),
        ],
    )
    def test_wrong_options_are_refused(self, options: dict[str, Any], message: str):
        with pytest.raises(ConfigurationError, match=message):
            CaptionStage(instructed(**options))

    def test_pixels_are_no_option_of_blip_2(self):
        entry = load_catalog().model("caption")
        with pytest.raises(ConfigurationError, match=r"allowed keys: prompt, beams, max_new_tokens\n"):
            CaptionStage(entry.model_copy(update={"options": {"max_pixels": 9}}))

    def test_every_option_is_part_of_the_annotator_and_blip_2_has_the_same_as_ever(self, tmp_path: Path):
        store = model_store(tmp_path)
        told, blip2 = instructed(max_pixels=70_000), load_catalog().model("caption")
        for entry in (told, blip2):
            folder = tmp_path / entry.name
            folder.mkdir()
            (folder / "weights").write_text(entry.name)
            store.add(entry.networks["captioner"], folder)
        records = [annotator_of(CaptionStage, entry, store).record["options"] for entry in (told, blip2)]
        assert records[0]["max_pixels"] == 70_000
        assert set(records[0]) == {"prompt", "beams", "max_new_tokens", "min_pixels", "max_pixels"}
        assert records[1] == {"prompt": "", "beams": 2, "max_new_tokens": 48}

    def test_pictures_and_crops_get_their_captions(self, tmp_path: Path):
        options = {"prompt": "w1 w2", "max_new_tokens": 4, "min_pixels": 256, "max_pixels": 1600}
        stage = CaptionStage(instructed(f"file:{qwen_folder(tmp_path / 'weights')}", **options))
        stage.load(model_store(tmp_path), "cpu")
        together = stage.process([with_instances(0), with_instances(1, 90, 300)])
        assert [result.value for result in together] == [
            stage.process([one])[0].value for one in (with_instances(0), with_instances(1, 90, 300))
        ]
        assert [row["flag"] for row in together[0].rows["captions"]].count("label") == 1
        assert all(row["score"] < 0 for row in together[0].rows["captions"] if row["flag"] != "label")
