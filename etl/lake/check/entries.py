"""Whether an entry of a table's log is whole. delta-rs does not sync it, so that a power cut can tear the last ones.

An entry that is cut at the end of a line, or empty, opens without an error, its rows gone: nobody else would notice.
Ours begin with ``commitInfo`` and end with ``txn``, or with ``metaData`` where they change the table itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any


@dataclass(frozen=True)
class Entry:
    """What an entry says of itself: what is wrong with it (None: whole), and the unit it commits, if that is left."""

    problem: str | None
    unit: str | None = None


def judge(data: bytes) -> Entry:
    """Look at the bytes of an entry.

    >>> judge(b"").problem, judge(b'{"commitInfo":{}').problem
    ('empty', 'cut inside a line')
    """
    if not data.strip():
        return Entry("empty")
    actions: dict[str, dict[str, Any]] = {}
    cut = False
    for line in data.splitlines():
        try:
            actions.update(json.loads(line))
        except (ValueError, TypeError):
            cut = True
    return Entry("cut inside a line" if cut else _problem(actions), _unit(actions))


def _problem(actions: dict[str, dict[str, Any]]) -> str | None:
    if "commitInfo" not in actions:
        return "without commitInfo"
    operation = str(actions["commitInfo"].get("operation", ""))
    if "txn" in actions or "metaData" in actions:
        return None
    if "add" in actions or "remove" in actions:
        return "without a transaction: cut at the end of a line, or written by another program"
    if "protocol" in actions and operation != "CREATE TABLE":
        return None
    return None if operation.startswith("VACUUM") else "cut at the end of a line"


def _unit(actions: dict[str, dict[str, Any]]) -> str | None:
    if "txn" in actions:
        return str(actions["txn"].get("appId"))
    path = PurePosixPath(str(actions.get("add", {}).get("path", "")))
    return path.parts[1] if len(path.parts) == 3 and path.parts[0] == "parts" else None
