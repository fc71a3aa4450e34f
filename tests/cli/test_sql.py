"""``groundlake sql``."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from handmade import Handmade, Picture
from lake_times import ago, committed, made
from rows import row

from etl.lake import Lake
from etl.lake.schemas import TABLES

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


class TestOlderStates:
    @pytest.fixture
    def grown(self, hand: Handmade) -> Handmade:
        """A lake of 20 days whose third picture was settled as of ten days ago, and a manifest of what was before."""
        versions = {"downloads": hand.lake.table("downloads").version()}
        hand.add(Picture(size=(30, 20), seed=9))
        values = row("manifests", name="first", version="v1", lock=json.dumps({"tables": versions}))
        hand.lake.append("manifests", [values], "manifest")
        made(hand.lake, ago(20))
        for table in ("shards", "images", "sightings", "downloads"):
            for version, days in ((1, 15), (2, 10)):
                committed(hand.lake, table, version, ago(days))
        return hand

    @pytest.mark.parametrize(
        ("option", "count"),
        [
            (["--at", f"{ago(12):%Y-%m-%d}"], 3),
            (["--at", f"{ago(12):%Y-%m-%dT%H:%MZ}"], 3),
            (["--at", f"{ago(5):%Y-%m-%dT%H:%M}+02:00"], 4),
            (["--manifest", "first"], 3),
            (["--manifest", "first/v1"], 3),
            ([], 4),
        ],
    )
    def test_a_date_or_a_manifest_names_one(
        self, groundlake: Command, grown: Handmade, option: list[str], count: int
    ) -> None:
        ran = groundlake("sql", "select count(*) as n from images", "--format", "jsonl", *option)
        assert json.loads(ran.out) == {"n": count}

    @pytest.mark.parametrize(
        ("option", "code", "part"),
        [
            (["--at", "yesterday"], 78, "write 2026-11-01"),
            (["--at", "2999-01-01"], 78, "in the future"),
            (["--at", "2020-01-01"], 78, "there was no lake"),
            (["--manifest", "second"], 78, "known: first"),
            (["--manifest", "first/v2"], 78, "known: v1"),
            (["--manifest", "first", "--at", "2026-01-01"], 78, "name one of them"),
        ],
    )
    def test_one_that_never_was_is_refused(
        self, groundlake: Command, grown: Handmade, option: list[str], code: int, part: str
    ) -> None:
        ran = groundlake("sql", "select 1", *option)
        assert (ran.code, part in ran.err) == (code, True), ran.err


def test_a_file_that_is_gone_is_told_without_a_traceback(groundlake: Command, hand: Handmade) -> None:
    for file in Path(hand.lake.table_uri("images")).rglob("parts/*/*.parquet"):
        file.unlink()
    ran = groundlake("sql", "select width from images")
    assert (ran.code, "is gone" in ran.err, "Traceback" in ran.err) == (65, True, False), ran.err


def test_every_view_says_what_its_rows_are(groundlake: Command, hand: Handmade) -> None:
    out = groundlake("sql", "--tables").out
    shown = dict(re.findall(r"^(\w+): one row per (.*)$", out, re.MULTILINE))
    assert set(TABLES) < set(shown)
    assert shown["taken_down"] == "picture that was taken down"
    assert shown["all_outcomes"] == "image and annotator"
    assert shown["outcomes"] == "image and stage, of the current annotator"
    assert shown["all_tags"].endswith("of every annotator")
    assert re.search(r"planned_at .* when the shard of the canonical copy was planned", out)
