"""Looks for whatever is left of a picture anywhere in a lake's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from handmade import Handmade, Picture, Thing

from etl.lake import Lake, Snapshot
from etl.lake.schemas import TABLES

KEEPS_IDS = ("takedowns",)  # the tombstones themselves


def pictures(shard: int, count: int = 3) -> list[Picture]:
    """Pictures of which every text but one is their own; the ball's caption is the same everywhere."""
    return [
        Picture(
            size=(64, 64),
            things=[Thing("dog", (1, 1, 30, 30), f"crop {shard}-{n}."), Thing("ball", (31, 31, 60, 60), "a red ball")],
            source_caption=f"source {shard}-{n}.",
            caption=f"made {shard}-{n}.",
            format="PNG",
            seed=100 * shard + n,
        )
        for n in range(count)
    ]


def texts(shard: int, n: int) -> list[str]:
    """The texts that only this picture has."""
    return [f"{kind} {shard}-{n}." for kind in ("crop", "source", "made")]


def fill(lake: Lake, shards: int = 2) -> Handmade:
    """Some annotated shards."""
    hand = Handmade(lake)
    for shard in range(shards):
        made = pictures(shard)
        hand.annotate(hand.add(*made), *made)
    return hand


def traces(lake: Lake, image_id: str, data: bytes, words: Sequence[str]) -> list[str]:
    """Files with the picture's bytes or texts, and data files with a row that holds its id or one of the texts."""
    found = []
    for path in sorted(file for file in Path(lake.uri).rglob("*") if file.is_file()):
        content = path.read_bytes()
        if data in content or any(word.encode() in content for word in words):
            found.append(f"bytes: {path}")
        table = path.relative_to(lake.uri).parts[1] if "tables" in path.parts else ""
        if path.suffix == ".parquet" and "_delta_log" not in path.parts and table not in KEEPS_IDS:
            rows = str(pq.read_table(path).to_pylist())
            found += [f"{word}: {path}" for word in (image_id, *words) if word in rows]
    return found


def rows_without(lake: Lake, image_id: str, words: Sequence[str], **options: Any) -> dict[str, list[str]]:
    """All rows of all tables of a state, sorted, but for those that tell of one picture."""
    result = {}
    with Snapshot.take(lake, **options).connect() as connection:
        for name in TABLES:
            if name not in ("takedowns", "takedown_events", "rewrites"):
                rows = connection.sql(f"select * from raw.{name}").to_arrow_table().to_pylist()
                result[name] = sorted(str(row) for row in rows if not _tells(str(row), image_id, words))
    return result


def _tells(row: str, image_id: str, words: Sequence[str]) -> bool:
    return image_id in row or "taken_down" in row or any(word in row for word in words)
