"""The guarded rewrite: what is in the log is known, whatever the commit said."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable
from lake_ageing import expected, fill, values

from etl.errors import DataError
from etl.lake import Lake, maintenance
from etl.lake.maintenance.rewrite import _swap
from etl.storage import NotFoundError


def drop_first_file(lake: Lake, done: list[list[object]]) -> None:
    """Remove one file, once, with nothing in its place."""
    doomed = min(one.path for one in maintenance.data_files(lake.table("takedowns")))

    def step(table: DeltaTable) -> maintenance.Change | None:
        found = [one for one in maintenance.data_files(table) if one.path == doomed]
        return maintenance.Change(found, []) if found else None

    maintenance.rewrite(lake, "takedowns", step, lambda change, parts: done.append([change.removed[0].path, parts]))


def test_a_rewrite_of_files_that_another_replaced_is_refused(lake: Lake) -> None:
    fill(lake, 0, 4)
    stale = lake.table("takedowns")
    group = maintenance.data_files(stale)
    maintenance.compact(lake, "takedowns")
    rows = [maintenance.read_file(lake, "takedowns", group[0])]
    parts, error = _swap(lake, "takedowns", stale, maintenance.Change(group[:1], rows, same_rows=True))
    assert (parts, error is not None) == (None, True)
    assert values(lake) == expected(20)


@pytest.mark.parametrize("error", [OSError("the answer never came"), None], ids=["lost", "heard"])
def test_a_change_whose_answer_was_lost_is_known_to_be_made(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    fill(lake, 0, 3)
    real = DeltaTable.create_write_transaction

    def commit(table: DeltaTable, *args: object, **given: object) -> None:
        real(table, *args, **given)  # type: ignore[arg-type]
        if error:
            raise error

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)
    done: list[list[object]] = []
    drop_first_file(lake, done)
    assert len(done) == 1
    assert len(values(lake)) == 10


def test_a_change_that_another_made_is_not_taken_for_ours(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake, 0, 3)
    real = DeltaTable.create_write_transaction
    twin: list[list[object]] = []

    def commit(table: DeltaTable, *args: object, **given: object) -> None:
        if not twin:
            with monkeypatch.context() as patch:
                patch.setattr(DeltaTable, "create_write_transaction", real)
                drop_first_file(lake, twin)
        real(table, *args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)
    ours: list[list[object]] = []
    drop_first_file(lake, ours)
    assert (len(twin), ours) == (1, [])
    assert len(values(lake)) == 10


def test_a_change_that_would_lose_rows_unsaid_is_not_made(lake: Lake) -> None:
    fill(lake, 0, 2)

    def step(table: DeltaTable) -> maintenance.Change:
        files = maintenance.data_files(table)
        return maintenance.Change(files, [maintenance.read_batches(lake, "takedowns", files[0])], same_rows=True)

    with pytest.raises(DataError, match="2 files of 10 rows would become 5 rows; nothing was changed"):
        maintenance.rewrite(lake, "takedowns", step)
    assert values(lake) == expected(10)


def test_a_stream_without_rows_makes_no_file(lake: Lake) -> None:
    fill(lake, 0, 1)

    def step(table: DeltaTable) -> maintenance.Change | None:
        files = maintenance.data_files(table)
        return maintenance.Change(files, [iter(())]) if files else None

    assert maintenance.rewrite(lake, "takedowns", step) == 1
    assert maintenance.data_files(lake.table("takedowns")) == []


def test_a_file_that_a_takedown_replaced_and_deleted_meanwhile_is_looked_for_no_more(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake, 0, 3)
    rounds = iter([True])

    def step(table: DeltaTable) -> maintenance.Change | None:
        files = maintenance.data_files(table)
        if next(rounds, False):
            maintenance.compact(lake, "takedowns")
            for one in files:
                lake.store.delete(f"tables/takedowns/{one.path}")
            maintenance.read_file(lake, "takedowns", files[0])
        return None

    assert maintenance.rewrite(lake, "takedowns", step) == 0


def test_a_file_of_the_present_version_that_is_gone_is_an_error(lake: Lake) -> None:
    fill(lake, 0, 2)
    lake.store.delete(f"tables/takedowns/{maintenance.data_files(lake.table('takedowns'))[0].path}")
    with pytest.raises(NotFoundError):
        maintenance.compact(lake, "takedowns")
