"""The stage ground: boxes of known answers, and the real networks in any batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from real_models import item, loaded_stage

from etl.lake.constraints import conform
from etl.lake.schemas import TABLES
from etl.models.grounding_dino import Raw
from etl.settings import load_catalog
from etl.shapes.world.words import COLOURS, SHAPES, TAGS
from etl.stages.contract import WorkItem
from etl.stages.ground import GroundOptions, GroundStage, instance_key
from etl.stages.masks import Rle, decode
from etl.stages.prompts import Prompt, plan_prompts

NAMES = ["dog", "traffic light", "t-shirt"]  # words that the detector has to spell
MANY = sorted(f"{colour} {shape}" for colour in list(COLOURS)[:4] for shape in SHAPES)  # more than a prompt holds
ANY = {"quantile": 0.5, "text_threshold": 0.0, "max_boxes": 6}  # whatever the networks know, some boxes come out


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def stage(root: Path) -> GroundStage:
    return loaded_stage("ground", root, **ANY)


@pytest.fixture(scope="module")
def strict(root: Path) -> GroundStage:
    """With the thresholds of the catalog."""
    return loaded_stage("ground", root)


def tagged(seed: int, names: list[str] = NAMES, width: int = 200, height: int = 150) -> WorkItem:
    return item(seed, width, height, tags=[{"tags": [{"tag": name, "score": 0.5} for name in names]}])


def answers(stage: GroundStage, *found: tuple[str, float, tuple[float, float, float, float]]) -> tuple[Prompt, Raw]:
    """A pass whose boxes (centre and size as shares) are sure of one tag each."""
    (prompt,) = plan_prompts(NAMES, stage.detector.tokens, 64)
    probabilities = np.zeros((len(found), len(prompt.ids)), np.float32)
    for row, (tag, score, _) in enumerate(found):
        probabilities[row, slice(*prompt.spans[NAMES.index(tag)])] = score
    return prompt, Raw(np.asarray([box for *_, box in found], np.float32), probabilities)


def test_boxes_come_out_as_pixels_with_their_tag_best_first(strict: GroundStage):
    passes = [
        answers(strict, ("t-shirt", 0.5, (0.25, 0.5, 0.1, 0.2)), ("dog", 0.2, (0.5, 0.5, 0.1, 0.1))),
        answers(strict, ("traffic light", 0.8, (0.9, 0.9, 0.4, 0.4))),
    ]
    found = strict.choose(400, 100, passes)
    assert found.labels == ("traffic light", "t-shirt")
    assert found.phrases == ("traffic light", "t - shirt")
    assert found.scores == pytest.approx((0.8, 0.5))
    assert found.boxes.tolist() == [[280.0, 70.0, 400.0, 100.0], [80.0, 40.0, 120.0, 60.0]]


def test_a_box_outside_the_picture_or_thinner_than_a_pixel_is_dropped(strict: GroundStage):
    outside, thin = (1.5, 0.5, 0.2, 0.2), (0.5, 0.5, 0.002, 0.5)
    assert len(strict.choose(400, 100, [answers(strict, ("dog", 0.9, outside), ("dog", 0.9, thin))]).boxes) == 0


def test_boxes_of_two_passes_suppress_each_other(strict: GroundStage):
    box = (0.5, 0.5, 0.4, 0.4)
    found = strict.choose(100, 100, [answers(strict, ("dog", 0.6, box)), answers(strict, ("t-shirt", 0.7, box))])
    assert found.labels == ("t-shirt",)


def test_rows_satisfy_the_table_and_masks_have_the_pictures_size(stage: GroundStage):
    (result,) = stage.process([tagged(0, width=210, height=90)])
    rows = result.rows["instances"]
    assert result.status == "ok"
    assert 1 <= len(rows) <= stage.options.max_boxes
    assert result.value == sorted(row["instance_id"] for row in rows)
    made_by_the_runner = {"image_id": "0" * 32, "shard_id": "s", "annotator_id": "a", "unit": "u"}
    full = [{**row, **made_by_the_runner} for row in rows]
    conform("instances", pa.Table.from_pylist(full, schema=TABLES["instances"].schema))
    for row in rows:
        mask = decode(Rle(row["mask_counts"], row["mask_height"], row["mask_width"], row["mask_area"]))
        assert mask.shape == (90, 210)
        assert mask.sum() == row["mask_area"]
        assert row["label"] in NAMES


def test_results_do_not_depend_on_batch_mates_or_their_order(stage: GroundStage):
    few, many = tagged(1), tagged(2, MANY)
    items = [few, many, tagged(3, ["star"], width=120, height=190), tagged(4, list(SHAPES))]
    alone = [stage.process([one])[0] for one in items]
    assert stage.process(items) == alone
    assert stage.process(items[::-1])[::-1] == alone
    assert stage.process([items[1]] * 3) == [alone[1]] * 3


def test_more_tags_than_a_prompt_holds_take_several_passes(stage: GroundStage):
    many = tagged(2, MANY)
    prompts = stage._prompts(many)
    assert len(prompts) > 1
    assert sorted(tag for prompt in prompts for tag in prompt.tags) == MANY
    assert stage.process([many])[0].status == "ok"


def test_the_order_of_tags_changes_nothing(stage: GroundStage):
    assert stage.process([tagged(5, NAMES)]) == stage.process([tagged(5, NAMES[::-1])])


@pytest.mark.parametrize("style", ["phrases", "joined"])
def test_both_prompt_styles_answer_with_tags(root: Path, style: str):
    stage = loaded_stage("ground", root, **ANY, prompt_style=style)
    (result,) = stage.process([tagged(6)])
    assert {row["label"] for row in result.rows["instances"]} <= set(NAMES)


def test_prompts_name_tags_in_the_order_of_the_taggers_list(root: Path, tmp_path: Path):
    listed = tmp_path / "ram_tag_list.txt"
    listed.write_text("\n".join(["unknown", *NAMES[::-1], NAMES[0]]))
    stage = loaded_stage("ground", root, prompt_style="joined", tag_list=f"file:{listed}")
    (prompt,) = stage._prompts(tagged(6, sorted(NAMES)))
    assert list(prompt.tags) == NAMES[::-1]


def test_the_list_of_tags_is_in_the_annotators_record_by_its_digest_and_only_where_it_is_given(tmp_path: Path):
    listed = tmp_path / "list.txt"
    listed.write_text("b\na\n")
    assert not [key for key in GroundOptions().model_dump() if key.startswith("tag_list")]
    record = GroundOptions(tag_list=f"file:{listed}").model_dump(mode="json")
    listed.write_text("a\nb\n")
    other = GroundOptions(tag_list=f"file:{listed}").model_dump(mode="json")
    assert record["tag_list_sha256"] != other["tag_list_sha256"]


def test_the_joined_style_keeps_a_box_whose_only_sure_token_is_no_tags(root: Path):
    stage = loaded_stage("ground", root, prompt_style="joined")
    (prompt,) = plan_prompts(NAMES, stage.detector.tokens, 64, "joined")
    probabilities = np.zeros((1, len(prompt.ids)), np.float32)
    probabilities[0, 0] = 0.9  # [CLS]: upstream counts it for the score, but never says it
    found = stage.choose(100, 100, [(prompt, Raw(np.asarray([[0.5] * 4], np.float32), probabilities))])
    assert (found.scores, found.phrases) == (pytest.approx((0.9,)), ("",))
    assert found.labels[0] in NAMES


def test_a_picture_without_tags_needs_no_network(root: Path):
    stage = loaded_stage("ground", root)
    del stage.detector, stage.segmenter
    for upstream in ([], [{"tags": []}]):
        result = stage.skip(item(0, tags=upstream))
        assert (result.status, result.reason) == ("empty", "no_tags")
    assert stage.skip(tagged(0)) is None


def test_tags_that_are_no_objects_are_never_asked_for(stage: GroundStage):
    (prompt,) = stage._prompts(tagged(0, list(TAGS)))
    assert prompt.tags == SHAPES


def test_a_picture_with_only_such_tags_is_an_empty_outcome_of_its_own(stage: GroundStage):
    colours = [*load_catalog().model("ground").options["non_object_tags"]]
    result = stage.skip(tagged(0, colours))
    assert (result.status, result.reason, result.value) == ("empty", "no_object_tags", [])
    assert stage.skip(tagged(0, [*colours, "star"])) is None


def test_no_box_above_the_threshold_is_an_empty_outcome_beside_others(root: Path):
    stage = loaded_stage("ground", root, box_threshold=1.0)
    results = stage.process([tagged(0), tagged(1)])
    assert [(result.status, result.reason) for result in results] == [("empty", "no_boxes")] * 2


@pytest.mark.parametrize("network", ["detector", "segmenter"])
def test_answers_that_are_not_finite_are_a_failed_outcome(root: Path, network: str):
    stage = loaded_stage("ground", root, **ANY)
    model = getattr(stage, network).network
    (model.model.level_embed if network == "detector" else model.prompt_encoder.no_mask_embed.weight).data.fill_(
        float("nan")
    )
    (result,) = stage.process([tagged(0)])
    assert (result.status, result.reason) == ("failed", "not_finite")


def test_a_picture_too_narrow_for_the_detector_is_a_failed_outcome(root: Path):
    stage = loaded_stage("ground", root)
    stage.detector.network.config.num_queries = 70
    (result,) = stage.process([tagged(0, width=16, height=3000)])
    assert (result.status, result.reason) == ("failed", "too_narrow")


def test_pictures_of_other_resized_shapes_share_no_batch(stage: GroundStage):
    assert stage.shape(200, 150) == stage.shape(400, 300) == (213, 160)
    assert stage.shape(150, 200) == (160, 213)


def test_equal_instances_keep_their_id_and_others_do_not():
    rle = Rle("213", 2, 3, 1)
    same = instance_key("image", "dog", [0.125, 0.0, 2.0, 2.0], rle)
    assert same == instance_key("image", "dog", [0.1251, 0.0, 2.0, 2.0], rle)
    assert same != instance_key("image", "cat", [0.125, 0.0, 2.0, 2.0], rle)
    assert same != instance_key("image", "dog", [0.25, 0.0, 2.0, 2.0], rle)
    assert same != instance_key("image", "dog", [0.125, 0.0, 2.0, 2.0], replace(rle, counts="312"))
    assert same != instance_key("other", "dog", [0.125, 0.0, 2.0, 2.0], rle)


def test_two_equal_instances_of_one_picture_have_two_ids(root: Path):
    stage = loaded_stage("ground", root, **ANY, nms_iou=1.0)
    stage.detector.detect = lambda *_: [answers(stage, *[("dog", 0.9, (0.5, 0.5, 0.5, 0.5))] * 2)[1]] * 1
    (result,) = stage.process([tagged(0)])
    assert result.status == "empty"  # both lie at the quantile of their own scores
    strict = loaded_stage("ground", root, nms_iou=1.0)
    strict.detector.detect = stage.detector.detect
    (result,) = strict.process([tagged(0)])
    assert len(result.value) == len(set(result.value)) == 2
