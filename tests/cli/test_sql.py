"""``groundlake sql``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from handmade import Handmade, Picture

from etl.lake import Lake

Command = Callable[..., Any]


@pytest.fixture
def hand(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Handmade:
    """Three pictures, in the lake the environment names."""
    hand = Handmade(lake)
    hand.add(*(Picture(size=(20 + n, 20), seed=n) for n in range(3)))
    monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
    return hand


def test_rows_come_as_table_csv_and_json_lines(groundlake: Command, hand: Handmade) -> None:
    query = "select width, format from images order by width"
    assert "22" in groundlake("sql", query).out
    rows = list(csv.reader(io.StringIO(groundlake("sql", query, "--format", "csv").out)))
    assert rows == [["width", "format"], ["20", "jpeg"], ["21", "jpeg"], ["22", "jpeg"]]
    lines = groundlake("sql", query, "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["width"] for line in lines] == [20, 21, 22]


def test_a_limit_that_hides_rows_says_so(groundlake: Command, hand: Handmade) -> None:
    ran = groundlake("sql", "select * from range(2000)", "--format", "jsonl", "--limit", "3")
    assert len(ran.out.splitlines()) == 3
    assert "only the first 3 rows" in ran.err
    assert groundlake("sql", "select * from range(3)", "--limit", "3").err == ""
    assert "only the first 50 rows" in groundlake("sql", "select * from range(60)").err


def test_text_that_looks_like_markup_is_shown_as_it_is(groundlake: Command, hand: Handmade) -> None:
    assert "[red]" in groundlake("sql", "select '[red]' as a").out


def test_tables_are_listed_with_the_meaning_of_their_columns(groundlake: Command, hand: Handmade) -> None:
    out = groundlake("sql", "--tables").out
    assert "instances: one row per detected object" in out
    assert "pixels, after EXIF orientation" in out
    assert out.index("sources: one row") < out.index("all_tags: one row")


@pytest.mark.parametrize(
    ("query", "code", "part"),
    [
        (None, 78, "no SQL given"),
        ("delete from images", 65, "read-only"),
        ("select 1; select 2", 65, "exactly one SELECT"),
        ("select nothing from images", 65, "nothing"),
        ("selec 1", 65, "not SQL"),
        ("select * from read_text('/etc/hostname')", 65, "failed"),
        ("copy (select 1) to 'x.csv'", 65, "read-only"),
    ],
)
def test_anything_but_one_select_over_the_lake_is_refused(
    groundlake: Command, hand: Handmade, query: str | None, code: int, part: str
) -> None:
    ran = groundlake("sql", *([query] if query else []))
    assert (ran.code, part in ran.err) == (code, True), ran.err
