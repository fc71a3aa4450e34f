"""Data files, tars and pictures: there, as long as they should be, and holding what the lake says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sound_lake import Sound

from etl.errors import GroundlakeError
from etl.lake import Lake, Snapshot, maintenance
from etl.lake.check import Finding
from etl.lake.check.files import check_content, check_files
from etl.lake.check.manifests import check_manifests, check_schema
from etl.lake.check.pictures import check_pictures
from etl.lake.parts import data_paths

Run = Callable[..., list[Finding]]


def part(made: Sound, table: str) -> Path:
    """A data file of the present version."""
    return Path(made.lake.table_uri(table), data_paths(made.lake.table(table))[0])


def kinds(found: list[Finding]) -> list[tuple[str, str, int]]:
    return [(one.check, one.severity, one.count) for one in found]


def test_a_missing_data_file_is_named(made: Sound, run: Run) -> None:
    part(made, "tags").unlink()
    (found,) = [one for one in run(made, check_files, "tags") if one.check == "files.active"]
    assert (found.count, part(made, "tags").name in found.example) == (1, True)


def test_a_data_file_of_another_size_is_named(made: Sound, run: Run) -> None:
    with part(made, "outcomes").open("ab") as file:
        file.write(b"more")
    (found,) = [one for one in run(made, check_files, "outcomes") if one.check == "files.active"]
    assert "another size" in found.message


def test_a_table_that_is_not_asked_for_is_not_looked_at(made: Sound, run: Run) -> None:
    part(made, "tags").unlink()
    assert run(made, check_files, "outcomes") == []


def test_a_file_that_only_a_pinned_version_names_is_missed(made: Sound, run: Run) -> None:
    old = part(made, "outcomes")
    maintenance.compact(made.lake, "outcomes")
    assert run(made, check_files) == []
    old.unlink()
    assert kinds(run(made, check_files)) == [("files.pinned", "error", 1)]


def test_what_a_takedown_put_in_its_place_is_wanted_instead(made: Sound, run: Run) -> None:
    old = part(made, "outcomes")
    maintenance.compact(made.lake, "outcomes")
    path = str(old.relative_to(made.lake.table_uri("outcomes")))
    made.append("rewrites", {"table_name": "outcomes", "old_path": path, "new_path": "parts/purge/new.parquet"})
    copy = Path(made.lake.table_uri("outcomes"), "parts/purge/new.parquet")
    copy.parent.mkdir()
    old.rename(copy)
    assert run(made, check_files) == []
    copy.unlink()
    assert kinds(run(made, check_files)) == [("files.pinned", "error", 1)]


def test_damage_inside_a_data_file_is_found_when_everything_is_read(made: Sound, run: Run) -> None:
    file = part(made, "tags")
    content = bytearray(file.read_bytes())
    content[8:40] = bytes(32)
    file.write_bytes(content)
    assert run(made, check_files, "tags") == run(made, check_content, "tags") == []
    (found,) = run(made, check_content, "tags", everything=True)
    assert "cannot be read" in found.message


def test_statistics_that_would_hide_rows_are_found(made: Sound, run: Run) -> None:
    log = Path(made.lake.table_uri("tags"), "_delta_log", f"{1:020d}.json")
    log.write_text(log.read_text().replace(made.shard, "0" * 32))
    (found,) = run(made, check_content, "tags", everything=True)
    assert ("readers skip rows" in found.message, "shard_id" in found.example) == (True, True)


def test_a_missing_tar_is_named(made: Sound, run: Run) -> None:
    Path(made.lake.uri, made.tar).unlink()
    (found,) = run(made, check_pictures)
    assert (found.check, made.tar in found.example) == ("pictures.tar", True)


def test_a_tar_that_ends_before_its_pictures_is_named(made: Sound, run: Run) -> None:
    tar = Path(made.lake.uri, made.tar)
    tar.write_bytes(tar.read_bytes()[:-1500])
    assert [one.message for one in run(made, check_pictures)] == ["tars are shorter than the pictures they hold"]


def damage_picture(made: Sound, number: int, data: bytes | None = None) -> None:
    """Other bytes for a picture; zeros by default."""
    rows = {row["image_id"]: row for row in made.lake.table("images").to_pyarrow_table().to_pylist()}
    row = rows[made.ids[number]]
    with Path(made.lake.uri, made.tar).open("r+b") as file:
        file.seek(row["offset"])
        file.write(data or bytes(row["length"]))


def test_pictures_with_other_bytes_are_found_when_all_are_read(made: Sound, run: Run) -> None:
    damage_picture(made, 3, b"x")
    damage_picture(made, 5)
    found = run(made, check_pictures, everything=True)
    assert kinds(found) == [("pictures.bytes", "error", 1), ("pictures.bytes", "error", 1)]
    assert made.ids[3] in found[0].example
    assert "zero" in found[1].message


def test_a_sample_is_repeated_by_its_seed(made: Sound, run: Run) -> None:
    for number in range(12):
        damage_picture(made, number, b"%d" % number)
    examples = [run(made, check_pictures, sample=1, seed=seed)[0].example for seed in (7, 7, 1, 2)]
    assert examples[0] == examples[1]
    assert len(set(examples)) > 1


def take_down(made: Sound, *events: str) -> None:
    made.append("takedowns", {"kind": "image_id", "value": made.ids[0], "takedown_id": "t1"})
    for event in events:
        made.append("takedown_events", {"takedown_id": "t1", "event": event})


def test_a_picture_taken_down_and_zeroed_is_as_it_should_be(made: Sound, run: Run) -> None:
    take_down(made, "purged")
    damage_picture(made, 0)
    assert run(made, check_pictures) == []


def test_a_picture_taken_down_that_is_still_there_is_under_way(made: Sound, run: Run) -> None:
    take_down(made)
    assert kinds(run(made, check_pictures)) == [("takedown.bytes", "note", 1)]


def test_a_picture_that_is_said_purged_but_still_there_is_found(made: Sound, run: Run) -> None:
    take_down(made, "purged")
    (found,) = run(made, check_pictures)
    assert (found.severity, found.remedy) == ("error", "groundlake takedown purge")


def test_a_manifest_that_was_moved_is_a_note(made: Sound, run: Run) -> None:
    Path(made.lake.uri, "manifests/set/v1/manifest.lock.json").unlink()
    assert kinds(run(made, check_manifests)) == [("manifests.lock", "note", 1)]


def test_a_lake_of_an_older_schema_is_checked_and_its_upgrade_named(made: Sound, run: Run) -> None:
    marker = Path(made.lake.uri, "lake.json")
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"schema_version": 1}))
    made.lake = Lake.open(made.lake.uri, made.lake.settings, reading=True)
    found = run(made, check_schema)
    assert kinds(found) == [("schema.version", "note", 1)]
    assert "groundlake lake upgrade" in found[0].remedy


def test_checks_that_damage_prevents_are_said_to_be_left_out(made: Sound, run: Run) -> None:
    (Path(made.lake.table_uri("tags")) / "_delta_log" / f"{1:020d}.json").write_text('{"commitInfo":{}}\n{"add')
    found = run(made)
    assert [one.check for one in found] == ["log.entry", "check.left_out"]
    assert "not checked: schema, files, rows, orphans" in found[1].message


def test_what_is_lost_with_a_missing_file_is_told_too(made: Sound, run: Run) -> None:
    part(made, "tags").unlink()
    Path(made.lake.uri, made.tar).unlink()
    found = run(made)
    assert {one.check for one in found} == {"files.active", "rows.lost", "units.lost", "pictures.tar"}


def test_a_store_that_fails_is_no_finding(made: Sound, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from etl.storage import StorageError

    def fail(*_: object) -> None:
        raise StorageError("list", "raw/", "the network is gone")

    monkeypatch.setattr(Snapshot, "take", fail)
    with pytest.raises(GroundlakeError, match="the network is gone"):
        run(made)
