"""Which work orders are still open, which are dead, and how a dead one is fenced.

A unit (an order's key) is closed once its last table holds its transaction: committed, or fenced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltalake import DeltaTable

from etl.lake.commit import COMMITTED, FENCED
from etl.lake.lake import Lake
from etl.lake.orders import order_key
from etl.lake.schemas import UNIT_TABLES
from etl.storage import NotFoundError

LAST = ("outcomes", "downloads")  # the table a unit is committed to last: of stages, of ingest
FOLDER = "units/"
_KEY = re.compile(r"[0-9a-f]{32}")


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


@dataclass(frozen=True)
class Registered:
    """What table ``orders`` says of a stage's order: among it the key of its list, and the time in seconds."""

    annotator_id: str
    items: str
    request: str
    opened_at: float


@dataclass(frozen=True)
class StaleUnit:
    """A unit that no reader will ever see, with something left of it.

    Attributes:
        key: Its key.
        last: The table it would have been committed to last.
        fenced: Whether it was declared dead already: its remains were not all removed.
    """

    key: str
    last: str
    fenced: bool


@dataclass
class _Seen:
    """What lies below ``units/`` of one key: when its order was written, and when anything was."""

    opened_at: float | None = None
    progressed_at: float = 0.0


def open_units(lake: Lake) -> list[OpenUnit]:
    """Every unit that was begun and is open, oldest first; one listing, and one look at each of the two last tables."""
    seen = _list_units(lake)
    closed = [lake.table(name) for name in LAST]  # after the listing: what was listed open may be closed by now
    return sorted(
        (
            OpenUnit(key, one.opened_at, one.progressed_at)
            for key, one in seen.items()
            if one.opened_at is not None and all(table.transaction_version(key) is None for table in closed)
        ),
        key=lambda unit: (unit.opened_at, unit.key),
    )


def stale_units(lake: Lake, before: float) -> list[StaleUnit]:
    """Units that are not committed and have not progressed since ``before`` (seconds, as the store tells time).

    An order waits for its turn as long as its request progresses: its progress is that of the latest order of the same
    request. Among them are orders that were registered and never begun, and item lists that were never registered.
    """
    registered = read_registered(lake)
    seen = {key: one for key, one in _list_units(lake).items() if is_unit_key(key)}
    latest = _latest_by_request(registered, seen)
    tables = {name: lake.table(name) for name in LAST}  # after the listing
    found = []
    for key in sorted({*seen, *(key for key in registered if is_unit_key(key))}):
        order = registered.get(key)
        progressed = latest[order.request] if order else seen[key].progressed_at
        states = {name: table.transaction_version(key) for name, table in tables.items()}
        if progressed >= before or COMMITTED in states.values():
            continue
        unit = StaleUnit(key, _last_table_of(lake, key, states), FENCED in states.values())
        if not unit.fenced or key in seen:
            found.append(unit)
    return found


def open_annotators(lake: Lake, known: dict[str, frozenset[str]] | None = None) -> dict[str, str]:
    """Annotators that an open order is for, or reads the rows of; each with one such order.

    Args:
        lake: The lake.
        known: What each order uses, as an earlier call with the same mapping found it: orders never change.
    """
    known = {} if known is None else known
    registered = read_registered(lake)
    begun = {unit.key for unit in open_units(lake)}
    outcomes = lake.table("outcomes")
    waiting = {key for key in registered if outcomes.transaction_version(key) is None}
    found: dict[str, str] = {}
    for key in sorted(begun | waiting):
        if key not in known:
            known[key] = _used(lake, key, registered.get(key))
        found |= dict.fromkeys(known[key], key)
    return found


def _used(lake: Lake, key: str, order: Registered | None) -> frozenset[str]:
    header = _header(lake, key, order.items if order else None)
    used = {order.annotator_id if order else header.get("annotator_id"), *header.get("upstream", {}).values()}
    return frozenset(used - {None})


def read_registered(lake: Lake) -> dict[str, Registered]:
    """Every order that table ``orders`` names, by its key."""
    found: dict[str, Registered] = {}
    columns = ["unit", "annotator_id", "items", "request", "opened_at"]
    for batch in lake.table("orders").to_pyarrow_dataset().to_batches(columns=columns):
        for row in batch.to_pylist():
            at = row["opened_at"].timestamp()
            found[row["unit"]] = Registered(row["annotator_id"], row["items"], row["request"], at)
    return found


def is_unit_key(text: str) -> bool:
    """Whether a text can be the key of a unit: 32 hex digits.

    >>> is_unit_key("0123456789abcdef" * 2), is_unit_key("maintain-00000001")
    (True, False)
    """
    return _KEY.fullmatch(text) is not None


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


def was_committed(table: DeltaTable, key: str) -> bool:
    """Whether a table holds, or held, parts of a unit."""
    return table.transaction_version(key) == COMMITTED


def _list_units(lake: Lake) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for found in lake.store.list(FOLDER):
        key, _, rest = found.key.removeprefix(FOLDER).partition("/")
        one = seen.setdefault(key if rest else key.removesuffix(".json"), _Seen())
        if not rest:
            one.opened_at = found.modified
        one.progressed_at = max(one.progressed_at, found.modified)
    return seen


def _latest_by_request(registered: Mapping[str, Registered], seen: Mapping[str, _Seen]) -> dict[str, float]:
    latest: dict[str, float] = {}
    for key, order in registered.items():
        progressed = max(order.opened_at, seen[key].progressed_at if key in seen else 0.0)
        latest[order.request] = max(progressed, latest.get(order.request, 0.0))
    return latest


def _last_table_of(lake: Lake, key: str, states: Mapping[str, int | None]) -> str:
    """The last table of a unit: the one it was fenced in first, else what its order says, else that of stages.

    Only stages write anything below ``units/`` before the order itself.
    """
    if states["downloads"] == FENCED and states["outcomes"] is None:
        return "downloads"
    header = _header(lake, key, None)
    return last_table(str(header["stage"])) if header else "outcomes"


def _header(lake: Lake, key: str, items: str | None) -> Mapping[str, Any]:
    """What all items of an order share; of one that is registered but not published, as its list says it."""
    for place in (items, order_key(key)):
        try:
            if place is not None:
                return dict(lake.store.read_json(place)["header"])
        except NotFoundError:
            continue
    return {}
