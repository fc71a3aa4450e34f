"""SQL over a pinned lake: it reads what was there, and reaches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from rows import row

from etl.errors import ConfigurationError
from etl.lake import Lake, Snapshot
from etl.lake.schemas import TABLES
from etl.lake.snapshot import QueryError


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
    assert set(opened) == set(TABLES)


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
