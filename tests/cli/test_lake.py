"""``groundlake lake``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from handmade import Handmade, Picture

from etl.lake import Lake
from etl.lake.schemas import TABLES

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


def test_init_in_place_of_a_file_is_refused(groundlake: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = groundlake("lake", "init", "file")
    assert (ran.code, "is a file" in ran.err) == (78, True)


def test_without_a_lake_the_way_out_is_named(groundlake: Command) -> None:
    ran = groundlake("lake", "stats")
    assert (ran.code, "groundlake lake init" in ran.err) == (78, True)


def test_maintenance_goes_over_all_tables(groundlake: Command, lake: Lake) -> None:
    hand = Handmade(lake)
    for seed in range(3):
        hand.add(Picture(size=(20, 20), seed=seed))
    assert "images: 3 files -> 1" in groundlake("lake", "compact", "--lake", lake.uri).out
    assert groundlake("lake", "checkpoint", "--lake", lake.uri).out.count("checkpoint at version") == len(TABLES)
    assert "images: 0 files would be deleted" in groundlake("lake", "vacuum", "--dry-run", "--lake", lake.uri).out
    rows = {
        one["table"]: one["rows"] for one in json.loads(groundlake("lake", "stats", "--json", "--lake", lake.uri).out)
    }
    assert (rows["images"], rows["tags"]) == (3, 0)


def test_an_unknown_table_is_refused_before_anything_happens(groundlake: Command, lake: Lake) -> None:
    ran = groundlake("lake", "compact", "--table", "pictures", "--lake", lake.uri)
    assert (ran.code, "known: " in ran.err) == (78, True)


def test_a_retention_below_seven_days_is_refused(groundlake: Command, lake: Lake) -> None:
    assert groundlake("lake", "vacuum", "--retention-days", "1", "--lake", lake.uri).code == 78
