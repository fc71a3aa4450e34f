"""Which file took the place of one that a takedown replaced."""

from __future__ import annotations

import pytest
from rows import at, row

from etl.errors import DataError
from etl.lake import Lake
from etl.lake.remaps import read_remaps, resolve

RESOLVED = {
    "untouched": ({}, ["a", "b"], ["a", "b"]),
    "replaced": ({"a": "a1"}, ["a", "b"], ["a1", "b"]),
    "replaced twice": ({"a": "a1", "a1": "a2"}, ["a"], ["a2"]),
    "nothing left": ({"a": None}, ["a", "b"], ["b"]),
    "nothing left in the end": ({"a": "a1", "a1": None}, ["a"], []),
    "two in one": ({"a": "c", "b": "c"}, ["a", "b"], ["c"]),
}


def replaced(lake: Lake, *rows: tuple[str, str | None, float], table: str = "tags") -> None:
    """Rows of ``rewrites``: old path, new path, hour; each written by a takedown of its own."""
    for number, (old, new, hour) in enumerate(rows):
        values = {"table_name": table, "old_path": old, "new_path": new, "rewritten_at": at(hour)}
        lake.append("rewrites", [row("rewrites", **values)], f"{table} {number}")


@pytest.mark.parametrize(("remap", "paths", "now"), RESOLVED.values(), ids=RESOLVED)
def test_paths_lead_to_the_files_that_hold_their_rows_today(
    remap: dict[str, str | None], paths: list[str], now: list[str]
) -> None:
    assert resolve(paths, remap) == now


def test_a_circle_is_an_error_not_a_hang() -> None:
    with pytest.raises(DataError, match="circle"):
        resolve(["a"], {"a": "b", "b": "a"})


def test_a_lake_without_takedowns_replaces_nothing(lake: Lake) -> None:
    assert read_remaps(lake) == {}


def test_replacements_are_read_per_table(lake: Lake) -> None:
    replaced(lake, ("a", "a1", 1), ("b", None, 1))
    replaced(lake, ("a", "other", 1), table="instances")
    assert read_remaps(lake) == {"tags": {"a": "a1", "b": None}, "instances": {"a": "other"}}


@pytest.mark.parametrize(
    "rows",
    [
        [("a", "second", 2), ("a", "first", 1)],
        [("a", "first", 1), ("a", "second", 2)],
        [("a", "second", 1), ("a", "first", 1)],
    ],
)
def test_of_two_takedowns_at_once_every_reader_follows_the_same(
    lake: Lake, rows: list[tuple[str, str | None, float]]
) -> None:
    replaced(lake, *rows)
    assert read_remaps(lake)["tags"] == {"a": "first"}
