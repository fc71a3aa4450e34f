"""Sizes and checkpoints of tables."""

from __future__ import annotations

from pathlib import Path

from lake_ageing import fill

from etl.lake import Lake, maintenance
from etl.lake.schemas import TABLES


def test_stats_add_up(lake: Lake) -> None:
    fill(lake, 0, 3)
    found = {one.table: one for one in maintenance.stats(lake)}
    assert set(found) == set(TABLES)
    assert (found["takedowns"].rows, found["takedowns"].files) == (15, 3)
    assert found["takedowns"].bytes == sum(Path(uri).stat().st_size for uri in lake.table("takedowns").file_uris())


def test_a_checkpoint_is_written(lake: Lake) -> None:
    fill(lake, 0, 1)
    version = maintenance.checkpoint(lake, "takedowns")
    log = Path(lake.table_uri("takedowns")) / "_delta_log"
    assert list(log.glob(f"{version:020d}.checkpoint*.parquet"))
