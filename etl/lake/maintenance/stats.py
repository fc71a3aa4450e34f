"""Sizes of the tables, and checkpoints of their logs."""

from __future__ import annotations

from dataclasses import dataclass

from etl.lake.lake import Lake
from etl.lake.maintenance.files import data_files
from etl.lake.schemas import TABLES


@dataclass(frozen=True)
class TableStats:
    """How large a table is at its present version."""

    table: str
    version: int
    rows: int
    files: int
    bytes: int


def stats(lake: Lake) -> list[TableStats]:
    """Rows, files and bytes of every table."""
    found = []
    for name in TABLES:
        table = lake.table(name)
        files = data_files(table)
        rows, size = sum(one.rows for one in files), sum(one.size for one in files)
        found.append(TableStats(name, table.version(), rows, len(files), size))
    return found


def checkpoint(lake: Lake, name: str) -> int:
    """Write a checkpoint, so that readers need not replay the log; returns the version."""
    table = lake.table(name)
    table.create_checkpoint()
    return int(table.version())
