"""SQL over a pinned lake: it reads what was there, and reaches nothing else."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from lake_times import ago, committed, made
from rows import image, row

from etl.errors import ConfigurationError, DataError, RetryableError, UnknownNameError
from etl.lake import Lake, Snapshot, maintenance
from etl.lake.engine import QueryError
from etl.lake.parts import data_paths, table_key, write_part
from etl.lake.schemas import TABLES


@pytest.fixture
def snapshot(lake: Lake) -> Snapshot:
    lake.append("runs", [row("runs", images=n) for n in range(3)], "unit")
    return Snapshot.take(lake)


def test_a_select_answers(snapshot: Snapshot) -> None:
    assert snapshot.sql("select sum(images) as total from runs").to_pylist() == [{"total": 3}]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_of_an_empty_lake_can_be_asked(lake: Lake, name: str) -> None:
    assert Snapshot.take(lake).sql(f"select count(*) as n from {name}").to_pylist() == [{"n": 0}]


def test_later_rows_do_not_reach_a_snapshot(lake: Lake, snapshot: Snapshot) -> None:
    lake.append("runs", [row("runs", images=100)], "later")
    assert snapshot.sql("select count(*) as n from runs").to_pylist() == [{"n": 3}]
    assert Snapshot.take(lake).sql("select count(*) as n from runs").to_pylist() == [{"n": 4}]


def test_an_older_state_can_be_taken_again_by_its_versions(lake: Lake, snapshot: Snapshot) -> None:
    lake.append("runs", [row("runs", images=100)], "later")
    again = Snapshot.take(lake, snapshot.versions)
    assert (again.versions, again.files) == (snapshot.versions, snapshot.files)


def test_a_version_that_cannot_be_opened_is_named(lake: Lake, snapshot: Snapshot) -> None:
    with pytest.raises(ConfigurationError, match=r"'runs' of .* has no version 99"):
        Snapshot.take(lake, {**snapshot.versions, "runs": 99})


def test_what_shows_an_outcome_as_complete_is_pinned_before_its_rows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that commits while the snapshot is taken may lack its outcomes, never its rows."""
    opened: list[str] = []
    table = lake.table
    monkeypatch.setattr(lake, "table", lambda name, version=None: opened.append(name) or table(name, version))
    Snapshot.take(lake)
    assert opened[:2] == ["outcomes", "downloads"]
    assert opened[len(TABLES) - 1] == "takedowns", "whose tombstones tell of rows that went meanwhile"
    assert set(opened) == set(TABLES)


def test_rows_that_went_while_their_outcomes_were_pinned_make_it_look_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of an annotator that is dropped: its outcomes first, then the others."""
    for table in ("tags", "outcomes"):
        lake.append(table, [row(table)], "unit")
    table, looks = lake.table, []

    def drop_before(name: str, version: int | None = None) -> DeltaTable:
        looks.append(name)
        if name == "tags" and looks.count("tags") == 1:
            for dropped in ("outcomes", "tags"):
                found = maintenance.data_files(table(dropped))
                changes = [maintenance.Change(found, [])]
                maintenance.rewrite(
                    Lake(lake.store, lake.settings), dropped, lambda _, c=changes: c.pop() if c else None
                )
        return table(name, version)

    monkeypatch.setattr(lake, "table", drop_before)
    snapshot = Snapshot.take(lake)
    assert looks.count("tags") == 2
    assert (snapshot.files["outcomes"], snapshot.files["tags"]) == ([], [])


class TestThePast:
    """Older states show what was there, without what was taken down since."""

    @pytest.fixture
    def tagged(self, lake: Lake) -> Lake:
        """Two images with tags of one order each, a file each; made 20 days ago."""
        for number, name in enumerate("ab"):
            for table in ("tags", "outcomes"):
                lake.append(table, [row(table, image_id=image(name), unit=name)], name)
                committed(lake, table, number + 1, ago(10 - number))
        made(lake, ago(20))
        return lake

    def images(self, snapshot: Snapshot) -> list[str]:
        return snapshot.sql("select image_id[1] as name from all_tags order by 1")["name"].to_pylist()

    def test_by_date(self, tagged: Lake) -> None:
        assert [self.images(Snapshot.take(tagged, at=ago(days))) for days in (15, 9.5, 1)] == [[], ["a"], ["a", "b"]]

    def test_by_versions_and_the_other_tables_at_their_latest(self, tagged: Lake) -> None:
        snapshot = Snapshot.take(tagged, {"outcomes": 1})
        assert self.images(snapshot) == ["a"]
        assert (snapshot.versions["outcomes"], snapshot.versions["tags"]) == (1, 2)

    def test_through_the_lake(self, tagged: Lake) -> None:
        query = "select count(*) as n from all_tags"
        found = [tagged.sql(query, **state) for state in ({}, {"at": ago(9.5)}, {"versions": {"outcomes": 0}})]
        assert [table["n"].to_pylist() for table in found] == [[2], [1], [0]]

    def test_a_picture_taken_down_since_is_absent(self, tagged: Lake) -> None:
        versions = Snapshot.take(tagged).versions
        tagged.append("takedowns", [row("takedowns", kind="image_id", value=image("a"))], "takedown")
        assert self.images(Snapshot.take(tagged, versions)) == ["b"]
        assert self.images(Snapshot.take(tagged, at=ago(1))) == ["b"]

    def test_a_file_that_a_takedown_replaced_is_read_as_it_left_it(self, tagged: Lake) -> None:
        versions, old = Snapshot.take(tagged).versions, data_paths(tagged.table("tags"))[0]
        kept = Snapshot.take(tagged).sql("select * from raw.tags").filter(pc.field("unit") == old.split("/")[1])
        new = write_part(tagged.store, "tags", kept.cast(TABLES["tags"].schema), "takedown", "00000").path
        tagged.store.delete(f"{table_key('tags')}/{old}")
        values = {"table_name": "tags", "old_path": old, "new_path": new}
        tagged.append("rewrites", [row("rewrites", **values)], "rewrite")
        assert self.images(Snapshot.take(tagged, versions)) == ["a", "b"]

    def test_a_file_of_which_a_takedown_left_nothing_is_not_read(self, tagged: Lake) -> None:
        versions, old = Snapshot.take(tagged).versions, data_paths(tagged.table("tags"))[0]
        tagged.store.delete(f"{table_key('tags')}/{old}")
        tagged.append("rewrites", [row("rewrites", table_name="tags", old_path=old, new_path=None)], "rewrite")
        assert len(self.images(Snapshot.take(tagged, versions))) == 1

    def test_versions_and_a_date_at_once_are_refused(self, tagged: Lake) -> None:
        with pytest.raises(ConfigurationError, match="both"):
            Snapshot.take(tagged, {}, at=ago(1))

    def test_an_unknown_table_is_refused(self, tagged: Lake) -> None:
        with pytest.raises(UnknownNameError, match="known: annotators"):
            Snapshot.take(tagged, {"pictures": 1})


class TestWhenTheStoreFails:
    """Whatever SQL runs, the error says which file, and what to do."""

    @pytest.fixture
    def compacted(self, lake: Lake) -> tuple[Lake, Snapshot, Path]:
        """A lake, a look at it from before a compaction, and a file of that look."""
        for number in range(2):
            lake.append("runs", [row("runs", images=number)], f"unit{number}")
        snapshot = Snapshot.take(lake)
        maintenance.compact(lake, "runs")
        return lake, snapshot, Path(snapshot.files["runs"][0])

    @pytest.mark.parametrize("sandbox", [True, False])
    @pytest.mark.parametrize("when", ["before", "during"])
    def test_a_file_that_vacuum_took_meanwhile(
        self, compacted: tuple[Lake, Snapshot, Path], sandbox: bool, when: str
    ) -> None:
        _, snapshot, file = compacted
        if when == "before":
            file.unlink()

        def ask(connection: duckdb.DuckDBPyConnection) -> None:
            file.unlink(missing_ok=True)
            connection.execute("select sum(images) from runs").fetchall()

        gone = rf"{file.name} of table 'runs' at version 2 is gone(.|\n)*run the command"
        with pytest.raises(RetryableError, match=gone), snapshot.connect(sandbox=sandbox) as connection:
            ask(connection)

    def test_a_user_is_told_the_same(self, compacted: tuple[Lake, Snapshot, Path]) -> None:
        _, snapshot, file = compacted
        file.unlink()
        with pytest.raises(RetryableError, match=file.name):
            snapshot.sql("select * from runs")

    def test_an_older_state_of_which_vacuum_took_a_file(self, compacted: tuple[Lake, Snapshot, Path]) -> None:
        lake, _, file = compacted
        file.unlink()
        with pytest.raises(DataError, match=rf"{file.name}(.|\n)*shorter retention(.|\n)*choose a later date"):
            lake.sql("select * from runs", versions={"runs": 2})

    def test_a_file_that_the_purge_of_a_takedown_took_meanwhile(self, compacted: tuple[Lake, Snapshot, Path]) -> None:
        lake, _, file = compacted
        snapshot = Snapshot.take(lake, {"runs": 2})
        path = file.relative_to(lake.table_uri("runs")).as_posix()
        lake.append("rewrites", [row("rewrites", table_name="runs", old_path=path, new_path=None)], "rewrite")
        file.unlink()
        with pytest.raises(RetryableError, match="run the command again"):
            snapshot.sql("select * from runs")
        assert len(lake.sql("select * from runs", versions={"runs": 2})) == 1

    def test_a_file_that_the_latest_version_names(self, lake: Lake, snapshot: Snapshot) -> None:
        Path(snapshot.files["runs"][0]).unlink()
        with pytest.raises(DataError, match=r"though the latest version names it(.|\n)*lake check"):
            snapshot.sql("select * from runs")

    def test_a_file_that_is_broken(self, lake: Lake, snapshot: Snapshot) -> None:
        Path(snapshot.files["runs"][0]).write_bytes(b"no parquet at all, but long enough")
        with pytest.raises(DataError, match=r"is broken(.|\n)*lake check"):
            snapshot.sql("select * from runs")

    def test_memory_that_does_not_suffice(self, lake: Lake) -> None:
        small = Lake(lake.store, lake.settings.model_copy(update={"sql_memory": "10MB"}))
        with pytest.raises(RetryableError, match=r"SQL engine failed(.|\n)*GROUNDLAKE_SQL_MEMORY"):
            small.sql("select list(i) from range(100000000) t(i)")

    def test_a_mistake_in_our_own_sql_is_not_the_stores_fault(self, snapshot: Snapshot) -> None:
        with pytest.raises(duckdb.BinderException), snapshot.connect() as connection:
            connection.execute("select nonsense from runs")


# Each must be refused, by the check of the statement or by DuckDB's own locks; FILE is outside, COMMITTED inside.
FORBIDDEN = {
    "nothing": "",
    "no sql": "selec 1",
    "two statements": "select 1; select 2",
    "copy over committed data": "copy (select 1) to 'COMMITTED' (use_tmp_file false)",
    "copy to a file": "copy (select 1) to 'FILE'",
    "copy below explain": "explain analyze copy (select 1) to 'COMMITTED' (use_tmp_file false)",
    "copy inside query()": "select * from query('copy (select 1) to ''FILE''')",
    "read text": "select * from read_text('FILE')",
    "read csv": "select * from read_csv('FILE')",
    "read a file by name": "select * from 'FILE.csv'",
    "list files": "select * from glob('/etc/*')",
    "attach": "attach 'FILE' as other",
    "install": "install httpfs",
    "load": "load httpfs",
    "set": "set memory_limit='100GB'",
    "set by a function": "select set_config('memory_limit', '100GB')",
    "reset": "reset enable_external_access",
    "pragma": "pragma enable_external_access",
    "create": "create table x as select 1",
    "drop": "drop view runs",
    "insert": "insert into runs select * from runs",
    "delete": "delete from raw.runs",
    "export": "export database 'FILE'",
    "call": "call pragma_database_list()",
    "a variable of the program": "select * from allowed",
    "an address": "select * from 'http://127.0.0.1:9/x.parquet'",
}


@pytest.mark.parametrize("query", FORBIDDEN.values(), ids=FORBIDDEN)
def test_sql_cannot_leave_the_sandbox(snapshot: Snapshot, tmp_path: Path, query: str) -> None:
    secret, committed = tmp_path / "secret", Path(snapshot.files["runs"][0])
    secret.write_text("secret")
    secret.with_suffix(".csv").write_text("a,b\n1,2\n")
    before, files = committed.read_bytes(), sorted(tmp_path.rglob("*"))
    with pytest.raises(QueryError):
        snapshot.sql(query.replace("COMMITTED", str(committed)).replace("FILE", str(secret)))
    assert committed.read_bytes() == before
    assert secret.read_text() == "secret"
    assert [path for path in tmp_path.rglob("*") if path.name != "scratch" and path not in files] == []


@pytest.mark.parametrize(
    "query",
    [
        "with x as (select images from runs) select * from x",
        "select unnest([1, 2])",
        "from runs select count(*)",
        "(select 1) union all (select 2)",
        "select list_transform(tags, lambda t: t.tag) from tags",
    ],
)
def test_the_usual_ways_to_ask_are_allowed(snapshot: Snapshot, query: str) -> None:
    snapshot.sql(query)


def test_a_wrong_column_is_told_with_the_way_to_the_right_ones(snapshot: Snapshot) -> None:
    with pytest.raises(QueryError, match=r"nonsense(.|\n)*groundlake sql --tables"):
        snapshot.sql("select nonsense from runs")


def test_the_spill_folder_goes_with_the_connection(snapshot: Snapshot) -> None:
    snapshot.sql("select 1")
    assert list(snapshot.lake.settings.scratch.iterdir()) == []
