"""An older lake is brought to the present schema while writers write; until then it can be read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from old_lake import OLD, make_old_lake, old_part
from rows import row

from etl.errors import ConfigurationError, DataError
from etl.lake import Lake, Snapshot, maintenance, migrations
from etl.lake.commit import commit
from etl.lake.migrations import MARKER, upgrade
from etl.lake.schemas import SCHEMA_VERSION, TABLES
from etl.settings import Settings
from etl.storage import StorageError, open_store


@pytest.fixture(scope="module")
def _first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("first") / "lake"
    make_old_lake(str(place), Settings())
    return place


@pytest.fixture
def old(tmp_path: Path, settings: Settings, _first: Path) -> Lake:
    """A lake of the first schema version, with a row in every table; as an older writer has it open."""
    shutil.copytree(_first, tmp_path / "old")
    return Lake(open_store(str(tmp_path / "old")), settings)


class Killed(BaseException):
    """The process ends here; no handler of ours may catch it."""


def run(lake: Lake) -> list[str]:
    return upgrade(lake.store, deadline=lake.settings.commit_deadline)


def shape(lake: Lake) -> dict[str, tuple[set[str], dict[str, str]]]:
    """Columns and properties of every table."""
    tables = {name: lake.table(name) for name in TABLES}
    return {
        name: ({f"{field}" for field in table.schema().fields}, table.metadata().configuration)
        for name, table in tables.items()
    }


def test_what_came_later_is_nullable() -> None:
    """Else files without it could not be read; delta-rs takes the column, and DataFusion then fails."""
    late = [column for table in TABLES.values() for column in table.columns if column.since > table.since]
    assert late
    assert all(column.nullable for column in late)


def test_an_upgraded_lake_is_like_a_new_one_and_keeps_its_rows(old: Lake, lake: Lake) -> None:
    done = run(old)
    assert shape(old) == shape(lake)
    assert {name: old.table(name).count() for name in TABLES} == {name: int(TABLES[name].since == 1) for name in TABLES}
    assert old.store.read_json(MARKER) == {"schema_version": SCHEMA_VERSION, "created_at": "2026-01-01T00:00:00+00:00"}
    assert {"orders: made", "runs: columns batch added"} <= set(done)


def test_upgrading_again_changes_nothing(old: Lake) -> None:
    run(old)
    before = {name: old.table(name).version() for name in TABLES}
    assert run(old) == []
    assert {name: old.table(name).version() for name in TABLES} == before


def test_old_and_new_rows_are_read_together_and_compacted(old: Lake) -> None:
    run(old)
    old.append("runs", [row("runs", batch=8)], "new")
    for _ in range(2):
        assert old.sql("select batch from runs order by 1")["batch"].to_pylist() == [8, None]
        assert sorted(pl.read_delta(old.table_uri("runs"))["batch"].to_list(), key=str) == [8, None]
        assert maintenance.compact(old, "runs").files_after == 1


@pytest.mark.parametrize("step", [1, 20])
def test_killed_anywhere_and_run_again_it_does_the_rest(
    old: Lake, lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    steps: list[str] = []
    do = migrations._step

    def killed(*given: object) -> str | None:
        steps.append("")
        if len(steps) > step:
            raise Killed
        return do(*given)

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_step", killed)
        with pytest.raises(Killed):
            run(old)
    with pytest.raises(ConfigurationError, match="groundlake lake upgrade"):
        Lake.open(old.uri, settings)
    assert len(Lake.open(old.uri, settings, reading=True).sql("select * from runs")) == 1
    run(old)
    assert shape(old) == shape(lake)


def test_several_at_once_do_it_together(old: Lake, lake: Lake) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = [step for one in [pool.submit(run, old) for _ in range(3)] for step in one.result()]
    assert shape(old) == shape(lake)
    assert "runs: columns batch added" in done
    assert run(old) == []


def test_writers_of_the_old_shape_lose_nothing(old: Lake) -> None:
    """Two write rows without the new column, one after another, from before the upgrade until after it."""
    done = Event()

    def write(writer: int) -> int:
        number = 0
        while number < 3 or not done.is_set() or number % 3:
            key = f"writer{writer}-{number}"
            old.commit("runs", key, [old_part(old, "runs", [row("runs", run_id=key)], key)])
            number += 1
        return number

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, number) for number in range(2)]
        try:
            run(old)
        finally:
            done.set()
        written = {"x"} | {f"writer{n}-{i}" for n, one in enumerate(writers) for i in range(one.result())}
    found = old.sql("select run_id, batch from runs")
    assert sorted(found["run_id"].to_pylist()) == sorted(written)
    assert found["batch"].null_count == len(written)


def test_a_writer_with_an_open_handle_fails_once_and_looks_again(old: Lake) -> None:
    stale, opened = old.table("runs"), []
    run(old)
    action = old_part(old, "runs", [row("runs")], "late")
    with pytest.raises(CommitFailedError, match=r"[Mm]etadata"):
        stale.create_write_transaction([action], "append", stale.schema())

    def open_table() -> DeltaTable:
        opened.append(1)
        return stale if len(opened) == 1 else old.table("runs")

    commit(open_table, "late", [action], deadline=5)
    assert len(opened) > 1
    assert old.table("runs").count() == 2


class TestBeforeTheUpgrade:
    def test_it_can_be_read_and_what_it_lacks_is_empty_or_null(self, old: Lake, settings: Settings) -> None:
        lake = Lake.open(old.uri, settings, reading=True)
        counts = ", ".join(f"(select count(*) from raw.{name}) as {name}" for name in TABLES)
        assert lake.sql(f"select {counts}").to_pylist() == [{n: int(TABLES[n].since == 1) for n in TABLES}]
        assert lake.sql("select batch from runs")["batch"].to_pylist() == [None]
        assert set(Snapshot.take(lake).versions) == {table.name for table in OLD}

    def test_whoever_would_write_is_refused_before_any_work(self, old: Lake, settings: Settings) -> None:
        with pytest.raises(
            ConfigurationError, match=rf"schema 1, this groundlake writes {SCHEMA_VERSION}(.|\n)*upgrade"
        ):
            Lake.open(old.uri, settings)

    @pytest.mark.parametrize(
        "write",
        [lambda lake: lake.append("runs", [row("runs")], "key"), lambda lake: lake.fence("runs", "key")],
        ids=["append", "fence"],
    )
    def test_a_lake_opened_for_reading_is_not_written(
        self, old: Lake, settings: Settings, write: Callable[[Lake], object]
    ) -> None:
        lake = Lake.open(old.uri, settings, reading=True)
        with pytest.raises(ConfigurationError, match="groundlake lake upgrade"):
            write(lake)

    def test_making_it_again_upgrades_it(self, old: Lake, settings: Settings, lake: Lake) -> None:
        Lake.create(old.uri, settings)
        assert shape(Lake.open(old.uri, settings)) == shape(lake)


class TestWhatIsLeftAlone:
    def test_a_newer_lake(self, old: Lake) -> None:
        newer = {"schema_version": SCHEMA_VERSION + 1}
        old.store.put(MARKER, json.dumps(newer).encode())
        with pytest.raises(ConfigurationError, match="upgrade groundlake"):
            run(old)
        assert old.store.read_json(MARKER) == newer
        assert old.table("runs").version() == 1

    def test_one_that_a_newer_groundlake_upgraded_meanwhile(self, old: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        newer = {"schema_version": SCHEMA_VERSION + 1}

        def overtaken(*_: object, **__: object) -> list[str]:
            old.store.put(MARKER, json.dumps(newer).encode())
            return []

        monkeypatch.setattr(migrations, "bring_up", overtaken)
        with pytest.raises(ConfigurationError, match="upgrade groundlake"):
            run(old)
        assert old.store.read_json(MARKER) == newer

    def test_a_column_of_another_type(self, old: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        columns = tuple(
            c if c.name != "host" else type(c)("host", TABLES["runs"].columns[-1].type, "")
            for c in TABLES["runs"].columns
        )
        monkeypatch.setitem(TABLES, "runs", type(TABLES["runs"])("runs", "", columns))
        with pytest.raises(ConfigurationError, match="'host' of table 'runs' has type string, expected int64"):
            run(old)

    @pytest.mark.parametrize("marker", [b"{}", b"[]", b"{", b'{"schema_version": "x", "created_at": ""}'])
    def test_a_marker_that_says_nothing(self, old: Lake, settings: Settings, marker: bytes) -> None:
        old.store.put(MARKER, marker)
        with pytest.raises(DataError, match=r"lake\.json"):
            Lake.open(old.uri, settings)

    def test_a_store_that_fails(self, old: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*_: object) -> str:
            raise OSError("no space left")

        monkeypatch.setattr(migrations, "_step", fails)
        with pytest.raises(StorageError, match=r"upgrade table(.|\n)*no space left(.|\n)*run the command again"):
            run(old)
        assert old.store.read_json(MARKER)["schema_version"] == 1
