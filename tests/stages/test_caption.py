"""The stage caption."""

import pytest
from real_models import item, loaded_stage

from etl.models.blip2 import Caption
from etl.stages.caption import CaptionStage, crops_of, degenerate
from etl.stages.contract import Row, WorkItem


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> CaptionStage:
    return loaded_stage("caption", tmp_path_factory.mktemp("models"))


def instance(number: int, x1: float, y1: float, x2: float, y2: float, label: str = "dog") -> Row:
    return {"instance_id": f"{number:032d}", "label": label, "x1": x1, "y1": y1, "x2": x2, "y2": y2}


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
