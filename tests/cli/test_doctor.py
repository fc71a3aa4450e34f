"""``groundlake doctor``; imports are checked once for real, elsewhere that slow part is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl.cli import doctor
from etl.lake import Lake
from etl.models.store import ModelStore
from etl.settings import load_catalog

Command = Callable[..., Any]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without importing the heavy packages; scratch inside the test."""
    monkeypatch.setattr(doctor, "_import_error", lambda modules: None)
    monkeypatch.setenv("GROUNDLAKE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("GROUNDLAKE_DEVICE", "cpu")


def states(text: str) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(text)}


@pytest.mark.usefixtures("quick")
def test_a_good_installation_with_a_lake_is_ok(groundlake: Command, lake: Lake) -> None:
    ran = groundlake("doctor", "--json", "--lake", lake.uri)
    found = states(ran.out)
    assert ran.code == 0
    assert {found[name] for name in ("python", "packages: core", "catalog", "lake", "lake writes", "lake disk")} == {
        "ok"
    }


@pytest.mark.usefixtures("quick")
def test_no_lake_yet_is_no_problem(groundlake: Command) -> None:
    ran = groundlake("doctor")
    assert ran.code == 0
    assert "groundlake lake init" in ran.out


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("GROUNDLAKE_LAKE", "/nowhere/at/all", "lake"),
        ("GROUNDLAKE_CATALOG", "/nowhere/at/all", "catalog"),
        ("GROUNDLAKE_PROFILE", "moon", "settings"),
        ("GROUNDLAKE_LAEK", "x", "settings"),
        ("GROUNDLAKE_DEVICE", "cuda:7", "device"),
    ],
)
def test_what_is_broken_is_named_with_its_remedy(
    groundlake: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str, check: str
) -> None:
    monkeypatch.setenv(name, value)
    ran = groundlake("doctor", "--json")
    problems = [one for one in json.loads(ran.out) if one["state"] == "problem"]
    assert ran.code == 78
    assert [one["name"] for one in problems] == [check]
    assert problems[0]["remedy"]


@pytest.mark.usefixtures("quick")
def test_a_missing_package_of_the_core_is_a_problem_a_missing_extra_is_not(
    groundlake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_EXTRAS", {"ingest": {"no-such-package": "no_such_package"}})
    ran = groundlake("doctor", "--json")
    assert (ran.code, states(ran.out)["packages: ingest"]) == (0, "absent")
    monkeypatch.setattr(doctor, "_CORE", {"no-such-package": "no_such_package"})
    assert groundlake("doctor").code == 78


def test_a_package_that_does_not_import_is_found_out() -> None:
    assert doctor._import_error(["json"]) is None
    assert "no_such_module" in str(doctor._import_error(["json", "no_such_module"]))


class TestWeights:
    """What is said of the weights that configured models need."""

    @pytest.fixture(autouse=True)
    def catalog(self, quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lake: Lake) -> Path:
        monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
        monkeypatch.setenv("GROUNDLAKE_CATALOG", str(tmp_path / "catalog"))
        (tmp_path / "catalog" / "sources").mkdir(parents=True)
        (tmp_path / "catalog" / "models").mkdir()
        return tmp_path / "catalog"

    def said(self, groundlake: Command) -> dict[str, Any]:
        checks = json.loads(groundlake("doctor", "--json").out)
        return {one["name"]: one for one in checks if one["name"].startswith("weights")}

    def test_weights_of_the_package_need_nothing(self, groundlake: Command) -> None:
        found = self.said(groundlake)
        assert {name: one["state"] for name, one in found.items()} == {
            "weights: ram-shapes (tag)": "ok",
            "weights: grounded-sam-shapes (ground)": "ok",
            "weights: blip2-shapes (caption)": "ok",
            "weights: clip-text-shapes (embed)": "ok",
        }

    def test_a_sources_model_without_weights_names_the_command(self, groundlake: Command, catalog: Path) -> None:
        models = "{ground: grounded-sam, tag: ram-shapes}"
        (catalog / "sources" / "mine.yaml").write_text(f"uri: urls.csv\nmodels: {models}\n")
        found = self.said(groundlake)
        assert len(found) == 5
        assert found["weights: grounded-sam (ground)"]["state"] == "absent"
        assert "models pull groundingdino-swint-ogc sam-vit-h;" in found["weights: grounded-sam (ground)"]["remedy"]

    def test_weights_in_the_lake_are_found_without_reading_them(
        self, groundlake: Command, catalog: Path, lake: Lake, tmp_path: Path
    ) -> None:
        (tmp_path / "given").mkdir()
        (tmp_path / "given" / "model.safetensors").write_bytes(b"numbers")
        entry = load_catalog().models["ram-swin-large"]
        digest = ModelStore(lake.store, tmp_path / "cache").add(entry.networks["tagger"], tmp_path / "given")
        (tmp_path / "lake" / "models" / "ram" / digest / "model.safetensors").unlink()
        (catalog / "sources" / "mine.yaml").write_text("uri: urls.csv\nmodels: {tag: ram-swin-large}\n")
        assert self.said(groundlake)["weights: ram-swin-large (tag)"]["detail"] == "in the lake"

    @pytest.mark.parametrize(
        ("model", "name", "detail"),
        [
            ("none", "weights: none", "unknown tag model 'none'"),
            ("mine", "weights: mine (tag)", "no folder /nowhere/at/all"),
        ],
    )
    def test_a_model_that_can_never_run_is_a_problem(
        self, groundlake: Command, catalog: Path, model: str, name: str, detail: str
    ) -> None:
        networks = "{tagger: {family: ram, weights: 'file:/nowhere/at/all'}}"
        (catalog / "models" / "mine.yaml").write_text(f"stage: tag\nnetworks: {networks}\n")
        (catalog / "sources" / "mine.yaml").write_text(f"uri: urls.csv\nmodels: {{tag: {model}}}\n")
        found = self.said(groundlake)[name]
        assert found["state"] == "problem"
        assert detail in found["detail"]
        assert found["remedy"]
