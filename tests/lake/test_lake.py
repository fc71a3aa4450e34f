"""A lake: made once, opened anywhere, the same on a folder and on S3."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rows import image, row, rows

from etl.errors import ConfigurationError, DataError
from etl.lake import Lake, Snapshot
from etl.lake.migrations import MARKER, bring_up
from etl.lake.orders import commit_order, finish_slice, open_order
from etl.lake.parts import data_paths, table_key
from etl.lake.schemas import SCHEMA_VERSION, TABLES, Table
from etl.settings import Settings
from etl.storage import Store


def test_a_new_lake_has_every_table_and_no_row(lake: Lake) -> None:
    assert {name: lake.table(name).to_pyarrow_table().num_rows for name in TABLES} == dict.fromkeys(TABLES, 0)


def test_creating_again_changes_nothing(lake: Lake, settings: Settings) -> None:
    lake.append("tags", [row("tags")], "unit")
    before = lake.store.read(MARKER)
    again = Lake.create(lake.uri, settings)
    assert again.store.read(MARKER) == before
    assert again.table("tags").to_pyarrow_table().num_rows == 1


def test_several_may_create_it_at_once(tmp_path: Path, settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        lakes = list(pool.map(lambda _: Lake.create(str(tmp_path / "lake"), settings), range(4)))
    assert [lake.table(name).version() for lake in lakes for name in TABLES] == [0] * 4 * len(TABLES)


def test_a_creation_that_was_killed_is_no_lake_until_it_is_finished(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "lake")

    class KilledError(Exception):
        pass

    def killed(store: Store, table: Table, *, deadline: float) -> list[str]:
        if table.name == "tags":
            raise KilledError
        return bring_up(store, table, deadline=deadline)

    monkeypatch.setattr("etl.lake.migrations.bring_up", killed)
    with pytest.raises(KilledError):
        Lake.create(uri, settings)
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match="no lake at"):
        Lake.open(uri, settings)
    Lake.create(uri, settings)
    assert Lake.open(uri, settings).table("outcomes").version() == 0


def test_opening_what_is_no_lake_says_how_to_make_one(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"no lake at(.|\n)*groundlake lake init"):
        Lake.open(str(tmp_path), settings)


def test_a_lake_of_a_newer_groundlake_is_refused(lake: Lake, settings: Settings) -> None:
    lake.store.put(MARKER, json.dumps({"schema_version": SCHEMA_VERSION + 1}).encode())
    with pytest.raises(
        ConfigurationError,
        match=rf"has schema {SCHEMA_VERSION + 1}, this groundlake knows {SCHEMA_VERSION}(.|\n)*upgrade",
    ):
        Lake.open(lake.uri, settings)


def test_a_version_that_never_was_is_an_error(lake: Lake) -> None:
    with pytest.raises(ConfigurationError, match="'tags'"):
        lake.table("tags", 7)


def test_rows_are_appended_once_per_key(lake: Lake) -> None:
    for _ in range(2):
        lake.append("runs", [row("runs", images=1)], "one")
    lake.append("runs", [row("runs", images=2)], "two")
    lake.append("runs", [], "nothing")
    assert sorted(lake.table("runs").to_pyarrow_table()["images"].to_pylist()) == [1, 2]
    assert lake.table("runs").version() == 2


def test_a_lake_can_be_moved(lake: Lake, settings: Settings, tmp_path: Path) -> None:
    lake.append("tags", [row("tags")], "unit")
    moved = Path(lake.uri).rename(tmp_path / "elsewhere")
    assert Lake.open(str(moved), settings).table("tags").to_pyarrow_table().num_rows == 1


def test_a_lake_on_s3_takes_an_order_and_shows_it(s3_uri: str, settings: Settings) -> None:
    lake = Lake.create(s3_uri, settings)
    unit, images = "0" * 32, [image(name) for name in "abc"]
    order = open_order(lake, unit, {"stage": "tag"}, lambda: [{"image_id": one} for one in images])
    for number, items in order.slices():
        tables = {
            name: rows(name, *({"image_id": item["image_id"], "unit": unit} for item in items))
            for name in ("tags", "outcomes")
        }
        finish_slice(lake, unit, number, tables, {"ok": len(items)})
    for _ in range(2):  # a retry after the commit adds nothing
        commit_order(Lake.open(s3_uri, settings), order, "outcomes")
    query = "select image_id from all_tags order by image_id"
    assert lake.sql(query)["image_id"].to_pylist() == images
    assert lake.sql(query, at=datetime.now(UTC))["image_id"].to_pylist() == images
    for name in data_paths(lake.table("tags")):
        lake.store.delete(f"{table_key('tags')}/{name}")
    with pytest.raises(DataError, match="of table 'tags' at version 1 is gone"):
        lake.sql(query)


@pytest.mark.parametrize("name", ["with space", "it's", "größe", 'a"b', "key=value"])
def test_a_lake_in_an_oddly_named_folder_shows_its_rows(name: str, tmp_path: Path, settings: Settings) -> None:
    lake = Lake.create(str(tmp_path / name / "lake"), settings)
    lake.append("shards", [row("shards", shard_id="a")], "unit")
    assert Snapshot.take(lake).sql("select shard_id from shards").to_pylist() == [{"shard_id": "a"}]
    assert "key" not in Snapshot.take(lake).sql("select * from raw.shards").column_names


@pytest.mark.parametrize("name", ["100%", "a%20b", "a*b", "a?b", "a[b"])
def test_a_folder_whose_name_its_readers_would_misread_is_refused(
    name: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(ConfigurationError, match="choose another folder"):
        Lake.create(str(tmp_path / name), settings)
    assert not (tmp_path / name).exists()
