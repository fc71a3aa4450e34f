"""``groundlake models tune``: measures, prints, and writes one number into the project's catalog."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl.lake import Lake
from etl.settings import load_catalog
from etl.stages import tune as tuning
from etl.stages.tune import Step

SMALL = ("--size", "96x64", "--max-batch", 2)


@pytest.fixture
def folder(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The catalog folder of a project with a lake; every size is timed briefly."""
    monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
    monkeypatch.setenv("GROUNDLAKE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("GROUNDLAKE_DEVICE", "cpu")
    monkeypatch.setattr(tuning, "MIN_SECONDS", 0.0)
    (tmp_path / "catalog").mkdir()
    (tmp_path / "groundlake.yaml").write_text("lake: lake\ncatalog: catalog\n")
    return tmp_path / "catalog"


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the images per second in a batch of two."""
    monkeypatch.setattr(tuning._Ladder, "_measure", lambda _, size: Step(size, 10.0 * size, 3_000_000))


@pytest.mark.usefixtures("rates")
def test_the_best_batch_stands_in_the_projects_catalog(groundlake, folder):
    ran = groundlake("models", "tune", "ram-shapes", *SMALL)
    assert ran.code == 0, ran.err
    assert load_catalog(folder).models["ram-shapes"].batch_sizes == {"cpu": 2}
    assert (folder / "models" / "ram-shapes.yaml").read_text().startswith("# RAM at a small size")
    assert "ram-shapes.yaml, a copy of the shipped file that goes before it from now on: cpu: 2" in ran.out
    assert "batch 2: the smallest within 5% of the best rate" in ran.out
    assert "batch 1: 10 images/s, 3.0 MB" in ran.err


@pytest.mark.usefixtures("rates")
def test_the_number_is_changed_where_there_is_one(groundlake, folder):
    groundlake("models", "tune", "--stage", "tag", *SMALL)
    ran = groundlake("models", "tune", "--stage", "tag", *SMALL[:3], 1)
    assert load_catalog(folder).models["ram-shapes"].batch_sizes == {"cpu": 1}
    assert "a copy of the shipped file" not in ran.out


def test_a_dry_run_measures_and_writes_nothing(groundlake, folder):
    ran = groundlake("models", "tune", "--stage", "embed", *SMALL, "--dry-run", "--json")
    found = json.loads(ran.out)
    assert (found["model"], found["stage"], found["kind"]) == ("clip-text-shapes", "embed", "cpu")
    assert [step["batch"] for step in found["steps"]] == [1, 2]
    assert all(step["images_per_second"] > 0 < step["peak_bytes"] for step in found["steps"])
    assert found["file"] is None
    assert list(folder.iterdir()) == []


def test_a_rate_that_a_cpu_keeps_flat_is_explained(groundlake, folder, monkeypatch):
    monkeypatch.setattr(tuning._Ladder, "_measure", lambda _, size: Step(size, 10.0, 3_000_000))
    ran = groundlake("models", "tune", "ram-shapes", *SMALL)
    assert "in float32 on a CPU networks see one picture at a time" in ran.out
    assert load_catalog(folder).models["ram-shapes"].batch_sizes == {"cpu": 1}


def test_without_a_catalog_of_its_own_a_project_is_told_how_to_name_one(groundlake, folder):
    (folder.parent / "groundlake.yaml").write_text("lake: lake\n")
    ran = groundlake("models", "tune", "ram-shapes")
    assert ran.code == 78
    assert "no catalog folder of your own" in ran.err
    assert "catalog: catalog" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no model is named"),
        (("none",), "unknown model 'none'; known: blip2-"),
        (("ram-shapes", "--stage", "ground"), "unknown ground model 'ram-shapes'"),
        (("--stage", "tags"), "unknown stage 'tags'"),
        (("ram-shapes", "--size", "640"), "expected width and height in pixels"),
        (("ram-shapes", "--size", "640x32"), "none below 64"),
        (("ram-shapes", "--device", "gpu"), "unknown device 'gpu'"),
        (("sam-vit-h",), "unknown model"),
        (("grounded-sam",), "groundlake models pull groundingdino-swint-ogc"),
    ],
)
def test_what_cannot_be_tuned_is_named(groundlake, folder, arguments, words):
    ran = groundlake("models", "tune", *arguments)
    assert ran.code == 78
    assert words in ran.err
