"""``groundlake lake check|backup|restore``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sound_lake import Sound, sound

from etl.lake import Lake

Command = Callable[..., Any]


@pytest.fixture
def made(lake: Lake) -> Sound:
    return sound(lake, stages=["tag"])


def tear(made: Sound) -> None:
    """Cut the last entry of the log of tags at the end of a line, as a power cut may."""
    file = Path(made.lake.table_uri("tags"), "_delta_log", f"{1:020d}.json")
    file.write_bytes(b"\n".join(file.read_bytes().split(b"\n")[:-1]))


def test_a_sound_lake_ends_with_0_and_says_how_to_repeat_the_sample(groundlake: Command, made: Sound) -> None:
    ran = groundlake("lake", "check", "--lake", made.lake.uri, "--sample", 5, "--seed", 42)
    assert (ran.code, "no damage found" in ran.out, "sample of 5, --seed 42" in ran.out) == (0, True, True)


def test_work_in_progress_is_a_note_and_ends_with_0(groundlake: Command, made: Sound) -> None:
    made.annotate("tag", run="second", commit=False)
    ran = groundlake("lake", "check", "--table", "orders", "--json", "--lake", made.lake.uri)
    said = json.loads(ran.out)
    assert (ran.code, said["clean"], [one["severity"] for one in said["findings"]]) == (0, True, ["note"])


def test_damage_ends_with_65_and_the_named_command_repairs_it(groundlake: Command, made: Sound) -> None:
    tear(made)
    ran = groundlake("lake", "check", "--table", "tags", "--lake", made.lake.uri)
    assert ran.code == 65
    assert "error log.entry: table tags: the last entry of its log is without a transaction" in ran.out
    assert "-> groundlake lake check --repair" in ran.out
    ran = groundlake("lake", "check", "--repair", "--table", "tags", "--lake", made.lake.uri)
    assert (ran.code, "was committed again" in ran.err) == (0, True)


def test_findings_are_machine_readable(groundlake: Command, made: Sound) -> None:
    Path(made.lake.uri, made.tar).unlink()
    ran = groundlake("lake", "check", "--table", "images", "--json", "--lake", made.lake.uri)
    (found,) = json.loads(ran.out)["findings"]
    assert ran.code == 65
    assert set(found) == {"check", "severity", "message", "count", "example", "remedy"}


def test_an_unknown_table_is_refused(groundlake: Command, lake: Lake) -> None:
    ran = groundlake("lake", "check", "--table", "pictures", "--lake", lake.uri)
    assert (ran.code, "known: " in ran.err) == (78, True)


def test_a_lake_is_backed_up_and_restored(groundlake: Command, made: Sound, tmp_path: Path) -> None:
    ran = groundlake("lake", "backup", "copy", "--lake", made.lake.uri)
    assert (ran.code, "objects copied" in ran.out) == (0, True)
    ran = groundlake("lake", "backup", "copy", "--prune", "--lake", made.lake.uri)
    assert "0 deleted" in ran.out
    ran = groundlake("lake", "restore", "copy", "back again")
    assert ran.code == 0
    assert f"groundlake lake check --lake '{tmp_path / 'back again'}'" in ran.out
    assert Lake.open("back again", made.lake.settings).table("tags").to_pyarrow_table().num_rows == 12


def test_a_restore_of_what_is_no_backup_is_refused(groundlake: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert groundlake("lake", "restore", "empty", "lake").code == 78
