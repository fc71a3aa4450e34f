"""Takedowns as the lake records them: tombstones that hide and keep out, and events that say how far each has come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from etl.lake.ids import digest
from etl.lake.lake import Lake
from etl.lake.takedown.request import Tombstone

REQUESTED, REWRITTEN, PURGED = STATES = ("requested", "rewritten", "purged")


@dataclass(frozen=True)
class Event:
    """A step of a takedown: when, and what was said of it."""

    at: datetime
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Takedown:
    """One request to forget pictures, and how far it has come.

    Attributes:
        takedown_id: Digest of the request.
        reason: Why.
        requested_at: When its first tombstone was written.
        tombstones: What it keeps out: what was asked for, and the images and bytes that were found for it.
        events: By name; of two processes that note the same, the first counts.
    """

    takedown_id: str
    reason: str
    requested_at: datetime
    tombstones: frozenset[Tombstone]
    events: Mapping[str, Event] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``requested``: hidden; ``rewritten``: rows and bytes are gone; ``purged``: from history too."""
        return next((state for state in reversed(STATES) if state in self.events), REQUESTED)

    def values(self, kind: str) -> frozenset[str]:
        """The ids or digests of its tombstones of a kind."""
        return frozenset(stone.value for stone in self.tombstones if stone.kind == kind)


def read_takedowns(lake: Lake) -> list[Takedown]:
    """Every takedown of the lake, oldest first.

    A tombstone without a takedown id, as schema 1 wrote them, is a takedown of its own.

    Raises:
        StorageError: The store failed.
    """
    stones: dict[str, set[Tombstone]] = {}
    first: dict[str, tuple[datetime, str]] = {}
    columns = ["kind", "value", "reason", "requested_at", "takedown_id"]
    for batch in lake.table("takedowns").to_pyarrow_dataset().to_batches(columns=columns):
        for row in batch.to_pylist():
            stone = Tombstone(row["kind"], row["value"])
            key = row["takedown_id"] or digest("tombstone", stone.kind, stone.value)
            stones.setdefault(key, set()).add(stone)
            found = (row["requested_at"], row["reason"])
            first[key] = min(found, first.get(key, found))
    events = _events(lake)
    found_all = [
        Takedown(key, first[key][1], first[key][0], frozenset(stones[key]), events.get(key, {})) for key in stones
    ]
    return sorted(found_all, key=lambda one: (one.requested_at, one.takedown_id))


def _events(lake: Lake) -> dict[str, dict[str, Event]]:
    events: dict[str, dict[str, Event]] = {}
    for batch in lake.table("takedown_events").to_pyarrow_dataset().to_batches():
        for row in batch.to_pylist():
            known = events.setdefault(row["takedown_id"], {})
            if row["event"] not in known or row["at"] < known[row["event"]].at:
                known[row["event"]] = Event(row["at"], json.loads(row["detail"]))
    return events


def write_tombstones(lake: Lake, takedown_id: str, reason: str, stones: Iterable[Tombstone], key: str) -> None:
    """Add tombstones in one commit, once per ``key``: from it on no view shows what they name."""
    now = datetime.now(UTC)
    rows = [
        {"kind": one.kind, "value": one.value, "reason": reason, "requested_at": now, "takedown_id": takedown_id}
        for one in sorted(stones)
    ]
    lake.append("takedowns", rows, key)


def note(lake: Lake, takedown_id: str, event: str, detail: Mapping[str, Any]) -> None:
    """Note a step of a takedown, once however often and by however many processes it is told."""
    row = {"takedown_id": takedown_id, "event": event, "detail": json.dumps(detail, sort_keys=True)}
    key = digest("takedown event", takedown_id, event)
    lake.append("takedown_events", [row | {"at": datetime.now(UTC)}], key)
