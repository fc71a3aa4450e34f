"""``groundlake lake``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from handmade import Handmade, Picture
from old_lake import make_old_lake

from etl.lake import Lake
from etl.lake.schemas import TABLES
from etl.settings import Settings

Command = Callable[..., Any]


def test_init_makes_a_lake_that_commands_inside_the_folder_find(
    groundlake: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = groundlake("lake", "init", "my lake")
    assert ran.code == 0
    assert f"cd '{tmp_path / 'my lake'}'" in ran.out
    assert "groundlake ingest run" in ran.out
    assert yaml.safe_load((tmp_path / "my lake" / "groundlake.yaml").read_text()) == {"lake": ".", "catalog": "catalog"}
    monkeypatch.chdir(tmp_path / "my lake" / "catalog" / "sources")
    assert groundlake("lake", "stats").code == 0


def test_init_of_a_lake_that_exists_says_so_and_changes_nothing(groundlake: Command, tmp_path: Path) -> None:
    groundlake("lake", "init", "lake")
    (tmp_path / "lake" / "groundlake.yaml").write_text("lake: .\n")
    ran = groundlake("lake", "init", "lake")
    assert (ran.code, "already" in ran.out) == (0, True)
    assert (tmp_path / "lake" / "groundlake.yaml").read_text() == "lake: .\n"


class TestAnOlderLake:
    @pytest.fixture(autouse=True)
    def old(self, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        lake = make_old_lake(str(tmp_path / "old"), settings)
        monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)

    def test_it_is_read_as_it_is_and_written_after_its_upgrade(self, groundlake: Command) -> None:
        assert groundlake("sql", "select count(*) from runs").code == 0
        assert groundlake("status").code == 0
        refused = groundlake("lake", "compact")
        assert (refused.code, "run 'groundlake lake upgrade'" in refused.err) == (78, True)
        ran = groundlake("lake", "upgrade")
        assert (ran.code, "runs: columns batch added" in ran.out) == (0, True)
        assert groundlake("lake", "compact").code == 0
        assert "nothing to do" in groundlake("lake", "upgrade").out

    def test_init_upgrades_it_too(self, groundlake: Command) -> None:
        assert groundlake("lake", "init", "old").code == 0
        assert groundlake("lake", "compact").code == 0


def test_init_in_place_of_a_file_is_refused(groundlake: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = groundlake("lake", "init", "file")
    assert (ran.code, "is a file" in ran.err) == (78, True)


def test_without_a_lake_the_way_out_is_named(groundlake: Command) -> None:
    ran = groundlake("lake", "stats")
    assert (ran.code, "groundlake lake init" in ran.err) == (78, True)


def test_stats_of_all_tables_for_a_program(groundlake: Command, lake: Lake) -> None:
    Handmade(lake).add(Picture(size=(20, 20)))
    found = json.loads(groundlake("lake", "stats", "--json", "--lake", lake.uri).out)
    assert [one["table"] for one in found] == list(TABLES)
    assert {one["table"]: one["rows"] for one in found if one["rows"]}["images"] == 1
