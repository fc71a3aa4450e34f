"""Once all is quiet and weeks have passed: nothing is left but what the tables name, and the check finds nothing."""

from __future__ import annotations

import time
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
from soak_pods import forget_history
from soak_world import World

from etl.lake import Lake, maintenance, takedown
from etl.lake.check import ERROR, Scope, check
from etl.lake.maintenance.vacuum import removed_files
from etl.lake.parts import data_paths, table_key
from etl.lake.schemas import TABLES

WEEKS = 30 * 24 * 3600.0


def clean_up(lake: Lake, world: World, asked: Collection[str]) -> list[str]:
    """End all takedowns, vacuum and sweep as they would be weeks later, and check.

    Args:
        lake: Nothing works on it any more.
        world: What it was filled with.
        asked: Pictures whose takedown somebody began to ask for; killed before the tombstone, they asked for nothing.

    Returns:
        What is wrong then; empty when nothing is.
    """
    hasty = Lake(lake.store, lake.settings.model_copy(update={"purge_hours": 0.0}))
    takedown.purge(hasty)
    pending = [one.takedown_id for one in takedown.read_takedowns(lake) if one.state != takedown.PURGED]
    maintenance.sweep(lake, now=time.time() + WEEKS)
    forget_history()
    for name in TABLES:  # also what sweep has just taken out of the log
        maintenance.vacuum(lake, name)
    gone = {row["value"] for row in lake.table("takedowns").to_pyarrow_table().to_pylist()}
    gone &= {picture.image_id for pictures in world.content for picture in pictures}
    wrong = [f"takedowns {pending[:3]} do not end"] if pending else []
    wrong += [f"taken down without being asked: {sorted(gone - set(asked))[:3]}"] if gone - set(asked) else []
    wrong += [f"bytes: {one}" for one in world.wrong_bytes(lake, gone)[:3]]
    return [*wrong, *_rows_of(lake, gone), *_left_over(lake), *_found(lake)]


def _rows_of(lake: Lake, gone: Collection[str]) -> list[str]:
    wrong = []
    for name, table in TABLES.items():
        if "image_id" in table.schema.names:
            rows = lake.table(name).to_pyarrow_table(columns=["image_id"])
            count = pc.sum(pc.is_in(rows["image_id"], value_set=pa.array(sorted(gone), pa.string()))).as_py()
            wrong += [f"{name}: {count} rows of pictures taken down"] if count else []
    return wrong


def _left_over(lake: Lake) -> list[str]:
    wrong = []
    for name in TABLES:
        prefix, table = f"{table_key(name)}/", lake.table(name)
        there = {one.key.removeprefix(prefix) for one in lake.store.list(f"{prefix}parts/")}
        named = set(data_paths(table))
        wrong += [f"{name}: {path} is missing" for path in sorted(named - there)[:3]]
        number = table.transaction_version(maintenance.APP) or 0
        # A rewrite that was killed leaves parts under a number that the next one uses up: sweep waits for that one.
        lost = sorted(path for path in there - named if path.split("/")[1] != f"{maintenance.APP}-{number + 1:08d}")
        removed = removed_files(lake, name, table)
        wrong += [f"{name}: nothing names {path}; removed: {path in removed}, rewrite {number}" for path in lost[:3]]
    return wrong


def _found(lake: Lake) -> list[str]:
    scope = Scope(tables=tuple(TABLES), everything=True)
    return [
        f"check: {one.check}: {one.message} ({one.count}, such as {one.example})"
        for one in check(lake, scope)
        if one.severity == ERROR
    ]
