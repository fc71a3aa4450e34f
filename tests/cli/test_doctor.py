"""``groundlake doctor``; imports are checked once for real, elsewhere that slow part is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl.cli import doctor
from etl.lake import Lake

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
