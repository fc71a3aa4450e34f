"""A lake on disk that tells of another past: when it was made, and when each version was committed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from etl.lake import Lake
from etl.lake.migrations import MARKER
from etl.lake.schemas import TABLES


def ago(days: float) -> datetime:
    """A moment that many days ago."""
    return datetime.now(UTC) - timedelta(days=days)


def made(lake: Lake, when: datetime) -> None:
    """Let the lake and its tables have been made then."""
    marker = lake.store.read_json(MARKER)
    lake.store.put(MARKER, json.dumps({**marker, "created_at": when.isoformat()}).encode())
    for name in TABLES:
        committed(lake, name, 0, when)


def committed(lake: Lake, table: str, version: int, when: datetime) -> None:
    """Let a version have been committed then."""
    entry = Path(lake.table_uri(table)) / "_delta_log" / f"{version:020d}.json"
    lines = [json.loads(line) for line in entry.read_text().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"]["timestamp"] = int(when.timestamp() * 1000)
    entry.write_text("".join(json.dumps(line) + "\n" for line in lines))
