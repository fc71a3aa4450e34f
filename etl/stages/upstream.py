"""What a slice needs from the lake besides pixels: the upstream rows of its images, and which were taken down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from etl.lake import Lake, Snapshot
from etl.lake.parts import data_paths
from etl.lake.schemas import TABLES
from etl.stages.contract import Row

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Maker:
    """Who made an upstream table: the stage's name (for the unit in an item) and the annotator."""

    table: str
    stage: str
    annotator_id: str


@dataclass(frozen=True)
class Upstream:
    """Upstream rows of a slice: per table, per image; and its images that must not be worked on any more."""

    rows: Mapping[str, Mapping[str, Sequence[Row]]] = field(default_factory=dict)
    taken_down: frozenset[str] = frozenset()

    def of(self, image_id: str) -> dict[str, Sequence[Row]]:
        """The rows of one image per table; a table without rows of it has an empty list."""
        return {table: rows.get(image_id, []) for table, rows in self.rows.items()}


def read_upstream(lake: Lake, items: Sequence[Mapping[str, Any]], makers: Sequence[Maker]) -> Upstream:
    """Read what a slice needs, by one query per table.

    Rows are taken by the units that the items name, not by what shows now: so they are those that the items'
    ``input_digest`` was made of, even when another request re-ran the upstream meanwhile.

    Args:
        lake: The lake, read at its latest state.
        items: Items of the slice (``image_id``, ``units``).
        makers: The upstream tables to read.
    """
    rows: dict[str, dict[str, list[Row]]] = {}
    if not makers and not _has_tombstones(lake):
        return Upstream()
    snapshot = Snapshot.take(lake)
    with snapshot.connect() as connection:
        ids = [item["image_id"] for item in items]
        gone = _taken_down(connection, ids)
        for maker in makers:
            wanted = pa.table({"image_id": ids, "unit": [item["units"].get(maker.stage) for item in items]})
            connection.register("wanted", wanted)
            order = "instance_id nulls first" if "instance_id" in TABLES[maker.table].schema.names else "image_id"
            found = connection.execute(
                f"select t.* from raw.{maker.table} t semi join wanted w "  # noqa: S608 - a table of ours
                f"on w.image_id = t.image_id and w.unit = t.unit where t.annotator_id = ? order by {order}",
                [maker.annotator_id],
            ).to_arrow_table()
            connection.unregister("wanted")
            rows[maker.table] = {}
            for row in found.to_pylist():
                rows[maker.table].setdefault(row["image_id"], []).append(row)
    return Upstream(rows, gone)


def taken_down(lake: Lake, images: Sequence[str]) -> frozenset[str]:
    """Those of some images that have a tombstone now."""
    if not _has_tombstones(lake):
        return frozenset()
    with Snapshot.take(lake).connect() as connection:
        return _taken_down(connection, images)


def _has_tombstones(lake: Lake) -> bool:
    """Whether anything was ever taken down; one table is opened for it, not all."""
    return bool(data_paths(lake.table("takedowns")))


def _taken_down(connection: duckdb.DuckDBPyConnection, images: Sequence[str]) -> frozenset[str]:
    query = "select image_id from taken_down where image_id in (select unnest(?::varchar[]))"
    return frozenset(row[0] for row in connection.execute(query, [list(images)]).fetchall())
