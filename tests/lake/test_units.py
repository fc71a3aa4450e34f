"""Which orders are open, which are dead, and what a fence does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from lake_ageing import DAY, Killed, age_files, killed_at
from rows import row

from etl.lake import Lake
from etl.lake.commit import FENCED
from etl.lake.ids import digest
from etl.lake.orders import open_order
from etl.lake.schemas import UNIT_TABLES
from etl.lake.units import fence_unit, open_annotators, open_units, stale_units

KEYS = [digest("unit", n) for n in range(3)]


def begin(lake: Lake, key: str, stage: str = "tag", **header: object) -> None:
    open_order(lake, key, {"stage": stage, "annotator_id": "a", **header}, lambda: [])


def commit(lake: Lake, table: str, key: str) -> None:
    lake.append(table, [row(table, unit=key)], key)


def test_units_that_are_neither_committed_nor_fenced_are_open_oldest_first(lake: Lake) -> None:
    for number, key in enumerate(KEYS):
        begin(lake, key)
        age_files(Path(lake.uri) / "units" / f"{key}.json", 10 - number)
    lake.store.put("units/requests/open/r.json", b"{}")
    assert [unit.key for unit in open_units(lake)] == KEYS
    commit(lake, "tags", KEYS[0])  # not its last table
    assert len(open_units(lake)) == 3
    commit(lake, "outcomes", KEYS[0])
    fence_unit(lake, KEYS[1], "outcomes")
    assert [unit.key for unit in open_units(lake)] == [KEYS[2]]


def test_progress_is_that_of_the_latest_slice_record(lake: Lake) -> None:
    begin(lake, KEYS[0])
    lake.store.put(f"units/{KEYS[0]}/00000.json", b"{}")
    age_files(Path(lake.uri) / "units" / f"{KEYS[0]}.json", 10)
    [unit] = open_units(lake)
    assert unit.progressed_at - unit.opened_at > 9 * DAY


def test_a_fence_reaches_every_table_the_last_one_first(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(lake, KEYS[0], "ingest")
    with killed_at(monkeypatch, lake, "fence", 1, after=True), pytest.raises(Killed):
        fence_unit(lake, KEYS[0], "downloads")
    assert open_units(lake) == []
    [unit] = stale_units(lake, time.time() + DAY)
    assert (unit.last, unit.fenced) == ("downloads", True)
    assert fence_unit(lake, unit.key, unit.last)
    assert {lake.table(name).transaction_version(KEYS[0]) for name in UNIT_TABLES} == {FENCED}


def test_a_committed_unit_is_not_fenced(lake: Lake) -> None:
    commit(lake, "outcomes", KEYS[0])
    assert not fence_unit(lake, KEYS[0], "outcomes")
    assert lake.table("tags").transaction_version(KEYS[0]) is None


def test_stale_are_units_without_progress_whose_last_table_is_theirs(lake: Lake) -> None:
    begin(lake, KEYS[0])
    begin(lake, KEYS[1], "ingest")
    begin(lake, KEYS[2])
    commit(lake, "outcomes", KEYS[2])
    assert stale_units(lake, time.time() - DAY) == []
    assert {(unit.key, unit.last) for unit in stale_units(lake, time.time() + DAY)} == {
        (KEYS[0], "outcomes"),
        (KEYS[1], "downloads"),
    }


def test_a_fenced_unit_is_stale_while_anything_of_it_is_left(lake: Lake) -> None:
    begin(lake, KEYS[0])
    fence_unit(lake, KEYS[0], "outcomes")
    [unit] = stale_units(lake, time.time() + DAY)
    assert unit.fenced
    lake.store.delete(f"units/{KEYS[0]}.json")
    assert stale_units(lake, time.time() + DAY) == []


def test_only_folders_named_like_an_order_are_taken_for_one(lake: Lake) -> None:
    lake.store.put("units/requests/r.json", b"{}")
    lake.store.put("units/notes/n.json", b"{}")
    assert stale_units(lake, time.time() + DAY) == []


def test_annotators_of_open_orders_are_those_they_are_for_and_those_they_read(lake: Lake) -> None:
    begin(lake, KEYS[0], upstream={"tag": "b"})
    lake.store.put(f"units/{KEYS[1]}/items-1.json", b'{"header": {"annotator_id": "c", "upstream": {"ground": "d"}}}')
    items = f"units/{KEYS[1]}/items-1.json"
    lake.append("orders", [row("orders", unit=KEYS[1], annotator_id="c", items=items)], KEYS[1])
    begin(lake, KEYS[2], annotator_id="e")
    commit(lake, "outcomes", KEYS[2])
    assert open_annotators(lake) == {"a": KEYS[0], "b": KEYS[0], "c": KEYS[1], "d": KEYS[1]}
