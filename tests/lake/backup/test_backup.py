"""A backup is a consistent lake at every instant, and a restored one goes on where the original was."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lake_copies import consistent, errors, grow, same_rows
from sound_lake import Sound

from etl.errors import ConfigurationError, DataError
from etl.lake import Lake, Snapshot, maintenance
from etl.lake.backup import Copied, backup, restore
from etl.lake.backup.copying import Copier
from etl.lake.backup.lakes import PIN_ORDER
from etl.lake.orders import commit_order, read_order
from etl.lake.parts import data_paths
from etl.lake.pins import manifest_versions
from etl.lake.schemas import TABLES
from etl.settings import Settings
from etl.storage import open_store


def test_a_backup_and_its_restore_hold_the_lake(made: Sound, place: str, tmp_path: Path, settings: Settings) -> None:
    copied = backup(made.lake, place)
    assert (copied.objects > 40, copied.skipped, copied.pruned) == (True, 0, 0)
    restore(place, str(tmp_path / "restored"), settings)
    restored = Lake.open(str(tmp_path / "restored"), settings)
    same_rows(restored, made.lake)
    assert {name: restored.table(name).version() for name in TABLES} == dict(Snapshot.take(made.lake).versions)
    assert errors(restored, everything=True) == []
    assert not Path(restored.uri, "restoring.json").exists()


def test_again_only_what_is_new_is_copied(made: Sound, place: str) -> None:
    first = backup(made.lake, place)
    assert backup(made.lake, place) == Copied(0, 0, first.objects, 0)
    made.append("takedowns", {"value": "0" * 32})
    assert backup(made.lake, place).objects == 2  # the data file, and the entry of the log
    same_rows(Lake.open(place, made.lake.settings), made.lake)


def test_beside_writers_a_backup_holds_whole_units(made: Sound, place: str) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            other = Sound(made.lake, source=f"web{number}")
            other.download()
            other.annotate("tag")
            maintenance.compact(made.lake, "outcomes")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            backup(made.lake, place)
    finally:
        stop.set()
        writer.join()
    copy = Lake.open(place, made.lake.settings)
    same_rows(copy, made.lake)
    consistent(copy)


def test_tables_are_written_after_those_they_refer_to() -> None:
    written = list(reversed(PIN_ORDER))
    assert sorted(written) == sorted(TABLES)
    for refers, referred in [
        ("outcomes", "tags"),
        ("outcomes", "orders"),
        ("downloads", "images"),
        ("current", "annotators"),
        ("tags", "images"),
        ("captions", "instances"),
        ("manifests", "outcomes"),
        ("images", "takedowns"),
        ("takedown_events", "instances"),
    ]:
        assert written.index(refers) > written.index(referred)


def test_versions_that_manifests_pin_are_readable_after_a_restore(
    made: Sound, place: str, tmp_path: Path, settings: Settings
) -> None:
    grow(made)
    backup(made.lake, place)
    restore(place, str(tmp_path / "restored"), settings)
    restored = Lake.open(str(tmp_path / "restored"), settings)
    query = "select image_id, unit from tags order by all"
    for name in ("set", "second"):
        versions = manifest_versions(made.lake, name)
        assert restored.sql(query, versions=versions) == made.lake.sql(query, versions=versions)


def test_a_restored_lake_knows_what_was_committed_and_goes_on(
    made: Sound, place: str, tmp_path: Path, settings: Settings
) -> None:
    waiting = made.annotate("tag", run="second", commit=False)
    backup(made.lake, place)
    restore(place, str(tmp_path / "restored"), settings)
    there = replace(made, lake=Lake.open(str(tmp_path / "restored"), settings))
    before = {name: there.lake.table(name).version() for name in TABLES}
    there.download()
    there.annotate("tag")
    assert {name: there.lake.table(name).version() for name in TABLES} == before
    order = read_order(there.lake, waiting)
    assert order is not None
    commit_order(there.lake, order, "outcomes")
    assert there.lake.table("outcomes").to_pyarrow_table().num_rows == 24
    consistent(there.lake)


def tar_in(made: Sound, place: str) -> bytes:
    return Path(place, made.tar).read_bytes()


def test_a_tar_that_a_takedown_zeroed_is_copied_again(made: Sound, place: str) -> None:
    backup(made.lake, place)
    made.lake.store.erase(made.tar, [(512, 20)])
    assert backup(made.lake, place).objects == 1
    assert tar_in(made, place) == tar_in(made, made.lake.uri)


def test_a_tar_that_is_zeroed_while_it_is_copied_is_copied_as_it_is_then(
    made: Sound, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer, erased = Copier._transfer, []

    def slow(self: Copier, one: Any) -> None:
        transfer(self, one)
        if one.key == made.tar and not erased:
            erased.append(made.lake.store.erase(made.tar, [(512, 20)]))

    monkeypatch.setattr(Copier, "_transfer", slow)
    backup(made.lake, place)
    assert tar_in(made, place) == tar_in(made, made.lake.uri)
    assert tar_in(made, place)[512:532] == bytes(20)


def test_prune_deletes_what_the_lake_no_longer_has(made: Sound, place: str) -> None:
    old = Path("tables/tags", data_paths(made.lake.table("tags"))[0])
    made.lake.store.put(str(old.with_name("old.parquet")), b"x")
    backup(made.lake, place)
    made.lake.store.delete(str(old.with_name("old.parquet")))
    made.lake.store.delete(f"units/{made.units['tag']}.json")
    backup(made.lake, place)
    assert Path(place, old.with_name("old.parquet")).exists()
    assert backup(made.lake, place, prune=True).pruned == 2
    assert not Path(place, old.with_name("old.parquet")).exists()
    assert Path(place, old).exists()
    same_rows(Lake.open(place, made.lake.settings), made.lake)


def test_files_that_a_takedown_replaced_are_not_brought_back(made: Sound, place: str, tmp_path: Path) -> None:
    backup(made.lake, place)
    old = data_paths(made.lake.table("tags"))[0]
    maintenance.compact(made.lake, "tags")
    new = data_paths(made.lake.table("tags"))[0]
    made.append("rewrites", {"table_name": "tags", "old_path": old, "new_path": new})
    backup(made.lake, place)
    assert Path(place, "tables/tags", old).exists()
    restore(place, str(tmp_path / "restored"), made.lake.settings)
    assert not Path(tmp_path, "restored/tables/tags", old).exists()
    assert Path(tmp_path, "restored/tables/tags", new).exists()


def test_what_is_no_earlier_state_of_the_lake_is_never_written_over(made: Sound, place: str, tmp_path: Path) -> None:
    Lake.create(place, made.lake.settings)
    with pytest.raises(ConfigurationError, match="holds another lake"):
        backup(made.lake, place)
    later = str(tmp_path / "later")
    backup(made.lake, later)
    shutil.copytree(later, tmp_path / "again")
    made.append("takedowns", {"value": "0" * 32})
    backup(made.lake, later)
    with pytest.raises(ConfigurationError, match="later state"):
        backup(Lake.open(str(tmp_path / "again"), made.lake.settings), later)


@pytest.mark.parametrize("inside", ["", "raw/backup", ".."])
def test_a_backup_inside_the_lake_or_around_it_is_refused(made: Sound, inside: str) -> None:
    with pytest.raises(ConfigurationError, match="lie in one another"):
        backup(made.lake, str(Path(made.lake.uri, inside)))


def test_a_damaged_lake_is_not_copied_over_a_good_backup(made: Sound, place: str) -> None:
    backup(made.lake, place)
    made.append("runs", {"run_id": "r"})
    Path(made.lake.table_uri("runs"), "_delta_log", f"{1:020d}.json").write_bytes(b"")
    with pytest.raises(DataError, match="last entry of its log is empty"):
        backup(made.lake, place)
    consistent(Lake.open(place, made.lake.settings))


def test_a_data_file_that_is_missing_fails_the_backup(made: Sound, place: str) -> None:
    Path(made.lake.table_uri("tags"), data_paths(made.lake.table("tags"))[0]).unlink()
    with pytest.raises(DataError, match="data files are missing"):
        backup(made.lake, place)
    with pytest.raises(ConfigurationError, match="no lake"):
        Lake.open(place, made.lake.settings)


def test_a_restore_goes_to_an_empty_place_only(made: Sound, place: str, tmp_path: Path, settings: Settings) -> None:
    backup(made.lake, place)
    with pytest.raises(ConfigurationError, match=r"not empty: there is lake\.json"):
        restore(place, made.lake.uri, settings)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "groundlake.yaml").write_text("lake: .\n")
    restore(place, str(tmp_path / "project"), settings)
    same_rows(Lake.open(str(tmp_path / "project"), settings), made.lake)


def test_a_table_goes_to_s3_and_back(
    made: Sound, s3_uri: str, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.lake.backup.copying.IN_MEMORY", 2000)  # so that the tar takes the way through files
    monkeypatch.setattr(
        "etl.lake.backup.lakes.PIN_ORDER", ("outcomes", "takedowns")
    )  # the server takes its time for all tables
    backup(made.lake, s3_uri)
    lost = f"tables/outcomes/{data_paths(made.lake.table('outcomes'))[0]}"
    open_store(s3_uri).delete(lost)
    assert backup(made.lake, s3_uri).objects == 1
    monkeypatch.setattr("etl.lake.backup.lakes.pinned_versions", lambda _: {})
    monkeypatch.setattr("etl.lake.backup.lakes.read_remaps", lambda _: {})
    restore(s3_uri, str(tmp_path / "restored"), settings)
    assert Path(tmp_path, "restored", lost).read_bytes() == Path(made.lake.uri, lost).read_bytes()
    assert tar_in(made, str(tmp_path / "restored")) == tar_in(made, made.lake.uri)
    restored = Lake.open(str(tmp_path / "restored"), settings)
    assert restored.table("outcomes").to_pyarrow_table() == made.lake.table("outcomes").to_pyarrow_table()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_lake_goes_to_s3_and_back(made: Sound, s3_uri: str, tmp_path: Path, settings: Settings) -> None:
    backup(made.lake, s3_uri)
    on_s3 = Lake.open(s3_uri, settings)
    assert errors(on_s3, everything=True) == []
    on_s3.store.delete(f"tables/tags/{data_paths(on_s3.table('tags'))[0]}")
    on_s3.store.delete(made.tar)
    assert {one.check for one in errors(on_s3)} >= {"files.active", "pictures.tar"}
    assert backup(made.lake, s3_uri).objects == 2
    restore(s3_uri, str(tmp_path / "restored"), settings)
    restored = Lake.open(str(tmp_path / "restored"), settings)
    same_rows(restored, made.lake)
    assert errors(restored, everything=True) == []
