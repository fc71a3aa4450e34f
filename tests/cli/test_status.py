"""``groundlake status``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from handmade import Handmade, Picture, Thing

from etl.lake import Lake

Command = Callable[..., Any]
PICTURES = [Picture(size=(80, 60), things=[Thing("dog", (10, 10, 50, 50), "a dog")], seed=1), Picture(size=(80, 60))]


def test_every_url_and_every_image_is_counted_once(groundlake: Command, lake: Lake) -> None:
    hand = Handmade(lake)
    hand.annotate(hand.add(*PICTURES, failed=["http_404", "http_404", "dns"]), *PICTURES, untrained=True)
    hand.add(PICTURES[1], Picture(size=(80, 60), seed=3))  # one of them is there already
    (state,) = json.loads(groundlake("status", "--json", "--lake", lake.uri).out)
    assert state["urls"] == {"n_urls": 7, "ok": 3, "duplicate": 1, "failed": {"dns": 1, "http_404": 2}}
    assert (state["images"], state["shards"]) == (3, {"open": 0, "done": 2})
    for stage in state["stages"]:
        assert stage["ok"] + sum(stage["empty"].values()) + sum(stage["failed"].values()) + stage["pending"] == 3
    out = groundlake("status", "--lake", lake.uri).out
    assert "7 urls settled: 3 ok, 1 duplicate, 3 failed (http_404 2, dns 1)" in out
    assert "ground-model (untrained weights)" in out


def test_shards_are_listed_when_asked_for(groundlake: Command, lake: Lake) -> None:
    hand = Handmade(lake)
    shard = hand.add(*PICTURES, settle=False)
    out = groundlake("status", "--shards", "--lake", lake.uri).out
    assert shard[:12] in out
    assert "1 open, 2 urls in open shards" in out


def test_an_unknown_source_lists_the_known_ones(groundlake: Command, lake: Lake) -> None:
    Handmade(lake).add(PICTURES[0])
    ran = groundlake("status", "--source", "news", "--lake", lake.uri)
    assert (ran.code, "known: hand" in ran.err) == (78, True)


def test_an_empty_lake_teaches_the_next_command(groundlake: Command, lake: Lake) -> None:
    assert "groundlake ingest run" in groundlake("status", "--lake", lake.uri).out
