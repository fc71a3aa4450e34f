"""Damage to the log of a table is found without the table, and mended where that needs no backup."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sound_lake import Sound

from etl.errors import GroundlakeError
from etl.lake import Lake, maintenance
from etl.lake.check import Finding, repair
from etl.lake.check.entries import judge
from etl.lake.check.logs import inspect_log, list_log
from etl.lake.check.phases import check_logs
from etl.lake.check.units import check_units

Run = Callable[..., list[Finding]]


def log_of(lake: Lake, table: str) -> Path:
    return Path(lake.table_uri(table)) / "_delta_log"


def entry(lake: Lake, table: str, version: int | None = None) -> Path:
    """The file of an entry; of the last one by default."""
    last = list_log(lake.store, table).last
    return log_of(lake, table) / f"{last if version is None else version:020d}.json"


def lengthen(made: Sound, commits: int) -> None:
    """More entries in the log of takedowns; the ninth brings a checkpoint."""
    for number in range(commits):
        made.append("takedowns", {"value": f"{number:032d}"})


def empty(file: Path) -> None:
    file.write_bytes(b"")


def inside_a_line(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def at_the_end_of_a_line(file: Path) -> None:
    file.write_bytes(b"\n".join(file.read_bytes().split(b"\n")[:-1]))


def after_the_first_line(file: Path) -> None:
    file.write_bytes(file.read_bytes().split(b"\n")[0] + b"\n")


TEARS = [empty, inside_a_line, at_the_end_of_a_line, after_the_first_line]


def test_every_entry_that_we_write_is_judged_whole(made: Sound) -> None:
    made.lake.fence("tags", "0" * 32)
    maintenance.compact(made.lake, "outcomes")
    made.lake.table("tags").alter.set_table_properties({"delta.checkpointInterval": "10"})
    entries = list(Path(made.lake.uri).glob("tables/*/_delta_log/*.json"))
    assert len(entries) > 40
    assert {judge(file.read_bytes()).problem for file in entries} == {None}


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_last_entry_is_found_although_the_table_may_open(made: Sound, tear: Callable[[Path], None]) -> None:
    tear(entry(made.lake, "tags"))
    (found,) = inspect_log(made.lake.store, "tags")
    assert (found.check, found.severity) == ("log.entry", "error")
    assert "the last entry" in found.message
    assert "check --repair" in found.remedy


def test_what_is_left_of_a_torn_entry_names_its_unit(made: Sound) -> None:
    at_the_end_of_a_line(entry(made.lake, "tags"))
    (found,) = inspect_log(made.lake.store, "tags")
    assert made.units["tag"] in found.example


@pytest.mark.parametrize("tear", [empty, inside_a_line])
def test_repair_takes_a_torn_last_entry_out_and_commits_its_unit_again(
    made: Sound, run: Run, tear: Callable[[Path], None]
) -> None:
    rows = made.lake.table("tags").to_pyarrow_table().sort_by("image_id")
    torn = entry(made.lake, "tags")
    tear(torn)
    content = torn.read_bytes()
    said = list(repair(made.lake))
    assert made.lake.table("tags").to_pyarrow_table().sort_by("image_id") == rows
    assert [file.read_bytes() for file in Path(made.lake.uri, "damaged").rglob("*.json-*")] == [content]
    assert "version 1 was torn" in said[0]
    assert f"unit {made.units['tag']} was committed again" in said[1]
    assert run(made, check_logs) == run(made, check_units) == []


def test_repair_of_a_sound_lake_does_nothing(made: Sound) -> None:
    assert list(repair(made.lake)) == []


def test_an_entry_that_others_follow_is_found_but_not_repaired(made: Sound) -> None:
    lengthen(made, 3)
    empty(entry(made.lake, "takedowns", 2))
    (found,) = inspect_log(made.lake.store, "takedowns")
    assert ("an entry" in found.message, "restore" in found.remedy) == (True, True)
    assert list(repair(made.lake)) == []
    assert entry(made.lake, "takedowns", 2).exists()


def test_an_old_entry_cut_inside_a_line_is_found_when_all_are_read(made: Sound) -> None:
    lengthen(made, 12)
    inside_a_line(entry(made.lake, "takedowns", 2))
    assert list(inspect_log(made.lake.store, "takedowns")) == []
    (found,) = inspect_log(made.lake.store, "takedowns", everything=True)
    assert found.example.startswith(f"tables/takedowns/_delta_log/{2:020d}.json")


def test_a_missing_middle_entry_is_found(made: Sound) -> None:
    lengthen(made, 3)
    entry(made.lake, "takedowns", 2).unlink()
    (found,) = inspect_log(made.lake.store, "takedowns")
    assert (found.check, found.count, "backup" in found.remedy) == ("log.missing", 1, True)


def test_a_cut_checkpoint_is_found_and_repaired(made: Sound) -> None:
    lengthen(made, 12)
    (file,) = log_of(made.lake, "takedowns").glob("*.checkpoint.parquet")
    file.write_bytes(file.read_bytes()[:2000])
    (found,) = inspect_log(made.lake.store, "takedowns")
    assert (found.check, "check --repair" in found.remedy) == ("log.checkpoint", True)
    with pytest.raises(GroundlakeError):
        made.lake.table("takedowns")
    assert "a checkpoint was cut" in next(iter(repair(made.lake)))
    assert made.lake.table("takedowns").to_pyarrow_table().num_rows == 12


def test_a_hint_to_a_checkpoint_that_is_gone_is_found_and_repaired(made: Sound) -> None:
    lengthen(made, 12)
    (file,) = log_of(made.lake, "takedowns").glob("*.checkpoint.parquet")
    file.unlink()
    (found,) = inspect_log(made.lake.store, "takedowns")
    assert "_last_checkpoint names version" in found.message
    list(repair(made.lake))
    assert made.lake.table("takedowns").to_pyarrow_table().num_rows == 12


def test_a_table_whose_log_is_gone_is_found(made: Sound) -> None:
    entry(made.lake, "runs").unlink()
    (found,) = inspect_log(made.lake.store, "runs")
    assert found.check == "log.table"


def test_a_table_that_does_not_open_for_another_reason_is_found(made: Sound, run: Run) -> None:
    file = entry(made.lake, "runs", 0)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line.get("protocol", {}).update(minReaderVersion=9)
    file.write_text("\n".join(map(json.dumps, lines)))
    (found,) = run(made, check_logs)
    assert (found.check, "cannot be opened" in found.message) == ("log.table", True)
