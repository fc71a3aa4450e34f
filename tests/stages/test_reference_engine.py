"""Models whose engine is upstream's own package: what is refused when they are planned, and whose answers they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_in_upstream
from real_models import item, model_store

from etl.errors import ConfigurationError
from etl.models.store import WeightsChangedError, file_digests
from etl.settings import ModelEntry
from etl.stages.annotators import annotator_of
from etl.stages.contract import Stage
from etl.stages.ground import GroundStage
from etl.stages.networks import fetch_weights
from etl.stages.tag import TagStage

FILES = {
    "sam": ("sam_vit_h.pth",),
    "groundingdino": ("dino.pth", "text/config.json", "text/vocab.txt"),
    "ram": ("ram.pth", "ram_tag_list.txt", "ram_tag_list_threshold.txt"),
}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    for family, names in FILES.items():
        for name in names:
            (tmp_path / family / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / family / name).write_text(f"{family} {name}")
    return {family: tmp_path / family for family in FILES}


def entry(stage: str, networks: dict[str, Any], **more: Any) -> ModelEntry:
    return ModelEntry(name="theirs", stage=stage, networks=networks, engine="reference", **more)


def network(family: str, folder: Path | str) -> dict[str, str]:
    return {"family": family, "weights": f"file:{folder}"}


def tagging(folders: dict[str, Path], **more: Any) -> ModelEntry:
    return entry("tag", {"tagger": network("ram", folders["ram"])}, **more)


def grounding(folders: dict[str, Path]) -> ModelEntry:
    own = {role: network(family, folders[family]) for role, family in ROLES.items()}
    return entry("ground", own)


ROLES = {"detector": "groundingdino", "segmenter": "sam"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"dtype": "bfloat16"}, "computes in float32"),
        ({"attention": "eager"}, "has no switches"),
        ({"compile": True}, "has no switches"),
        ({"networks": {"tagger": {"family": "ram", "weights": "catalog:ram-swin-large"}}}, "converted for our own"),
        ({"networks": {"tagger": {"family": "ram", "weights": "packaged:a/b@0123456789ab"}}}, "reads upstream's files"),
    ],
)
def test_what_upstreams_package_cannot_do_is_refused_when_it_is_planned(folders, more, words):
    content = tagging(folders).model_dump() | more
    with pytest.raises(ConfigurationError, match=words):
        TagStage(ModelEntry(**content))


@pytest.mark.parametrize(
    ("stage", "networks", "words"),
    [
        ("caption", {"captioner": network("blip2", "/models/blip2")}, "reference engine 'blip2'; known: groundingdino"),
        ("caption", {"captioner": network("tag2text", "/models/t")}, "reference engine of tag2text is a tagger"),
    ],
)
def test_a_family_or_task_without_a_reference_engine_is_refused_when_it_is_planned(stage, networks, words):
    from etl.stages.registry import stage_class

    with pytest.raises(ConfigurationError, match=words):
        stage_class(stage)(entry(stage, networks))


def test_a_folder_at_hand_that_is_not_upstreams_is_refused_when_it_is_planned(folders):
    (folders["ram"] / "second.pth").write_text("x")
    with pytest.raises(ConfigurationError, match=r"reads one .pth, but there are 2: ram.pth, second.pth"):
        TagStage(tagging(folders))


def test_a_folder_that_only_the_model_store_has_is_no_fault(folders, tmp_path):
    model = tagging(folders)
    models = model_store(tmp_path)
    fetch_weights(model, model.networks["tagger"], models)
    folders["ram"].rename(tmp_path / "away")
    TagStage(model)
    assert len(file_digests(fetch_weights(model, model.networks["tagger"], models))) == 3


def test_upstreams_files_are_stored_as_they_are_and_checked_when_they_are_fetched(folders, tmp_path):
    model, models = grounding(folders), model_store(tmp_path)
    copies = {role: fetch_weights(model, one, models) for role, one in model.networks.items()}
    for role, family in ROLES.items():
        assert file_digests(copies[role]) == file_digests(folders[family])
    stored = next(path for path in (tmp_path / "lake" / "models").rglob("dino.pth"))
    stored.write_text("something else")
    (copies["detector"] / "dino.pth").write_text("something else")
    with pytest.raises(WeightsChangedError, match=r"dino\.pth"):
        fetch_weights(model, model.networks["detector"], models)


def test_a_folder_of_converted_weights_is_refused_when_it_is_fetched(tmp_path):
    folder = tmp_path / "converted"
    model = entry("tag", {"tagger": network("ram", folder)})
    TagStage(model)  # the folder is not here: another machine may have it
    with pytest.raises(ConfigurationError, match="does not exist"):
        fetch_weights(model, model.networks["tagger"], model_store(tmp_path))


def test_its_annotator_says_whose_engine_it_is(folders, tmp_path):
    model, models = tagging(folders), model_store(tmp_path)
    fetch_weights(model, model.networks["tagger"], models)
    annotator = annotator_of(TagStage, model, models)
    ours = annotator_of(TagStage, model.model_copy(update={"engine": "groundlake"}), models)
    assert annotator is not None
    assert ours is not None
    assert annotator.record["engine"] == "reference"
    assert "engine" not in ours.record
    assert annotator.annotator_id != ours.annotator_id


@pytest.fixture
def loaded(folders, tmp_path, monkeypatch):
    """Loads a stage whose packages of upstream's are stand-ins."""
    stand_in_upstream.install(monkeypatch, tmp_path)
    stages: list[Stage] = []

    def load(stage: Stage) -> Any:
        stages.append(stage)
        stage.load(model_store(tmp_path), "cpu")
        return stage

    yield load
    for stage in stages:
        for name in ("tagger", "detector", "segmenter"):
            if hasattr(stage, name):
                getattr(stage, name).close()


def test_the_stage_tag_takes_its_scores_from_upstream(folders, loaded):
    stage = loaded(TagStage(tagging(folders, options={"threshold": 0.3})))
    (result,) = stage.process([item(0)])
    assert {tag["tag"] for tag in result.rows["tags"][0]["tags"]} <= {"dog", "box"}
    assert result.value[0] == "box"


def test_the_stage_ground_takes_boxes_and_masks_from_upstream(folders, loaded):
    stage = loaded(GroundStage(grounding(folders)))
    given = [item(seed, tags=[{"tags": [{"tag": "dog", "score": 0.5}]}]) for seed in range(2)]
    for result in stage.process(given):
        (row,) = result.rows["instances"]  # five equal boxes suppress each other
        assert row["label"] == "dog"
        assert np.allclose([row[side] for side in ("x1", "y1", "x2", "y2")], [50, 37.5, 150, 112.5])
        assert row["mask_area"] > 0
