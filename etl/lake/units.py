"""Which work orders are still open, and how a dead one is fenced.

A unit (an order's key) is closed once its last table holds its transaction: committed, or fenced.
"""

from __future__ import annotations

from dataclasses import dataclass

from etl.lake.lake import Lake
from etl.lake.schemas import UNIT_TABLES

LAST = ("outcomes", "downloads")  # the table a unit is committed to last: of stages, of ingest
FOLDER = "units/"


@dataclass(frozen=True)
class OpenUnit:
    """An order that is neither committed nor fenced; times are those of the store, in seconds.

    Attributes:
        key: Its key.
        opened_at: When the order was written.
        progressed_at: When it or its latest slice record was written.
    """

    key: str
    opened_at: float
    progressed_at: float


def open_units(lake: Lake) -> list[OpenUnit]:
    """Every open unit of the lake, oldest first; one listing, and one look at each of the two last tables."""
    opened: dict[str, float] = {}
    progressed: dict[str, float] = {}
    for found in lake.store.list(FOLDER):
        folder, _, name = found.key.removeprefix(FOLDER).rpartition("/")
        if not folder:
            opened[name.removesuffix(".json")] = found.modified
        else:
            progressed[folder] = max(progressed.get(folder, 0.0), found.modified)
    closed = [lake.table(name) for name in LAST]  # after the listing: what was listed open may be closed by now
    return sorted(
        (
            OpenUnit(key, at, max(at, progressed.get(key, 0.0)))
            for key, at in opened.items()
            if all(table.transaction_version(key) is None for table in closed)
        ),
        key=lambda unit: (unit.opened_at, unit.key),
    )


def last_table(header_stage: str) -> str:
    """The table that a unit of this stage is committed to last.

    >>> last_table("ingest"), last_table("tag")
    ('downloads', 'outcomes')
    """
    return "downloads" if header_stage == "ingest" else "outcomes"


def fence_unit(lake: Lake, key: str, last: str) -> bool:
    """Declare a unit dead in every table it may write to, the last one first: then it can never show.

    Returns:
        False when it was committed meanwhile; it is then not touched.

    Raises:
        CommitTimeoutError: The store failed until the deadline.
    """
    if not lake.fence(last, key):
        return False
    for name in UNIT_TABLES:
        if name != last:
            lake.fence(name, key)
    return True
