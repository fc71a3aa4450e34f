"""Deleting files that rewrites replaced, once no version that anyone may still read names them."""

from __future__ import annotations

import json
from typing import Any

from etl.errors import ConfigurationError
from etl.lake.lake import Lake

MIN_RETENTION_HOURS = 7 * 24


def pinned_versions(lake: Lake, name: str) -> list[int]:
    """Versions of a table that built manifests were made from."""
    locks = lake.table("manifests").to_pyarrow_table(columns=["lock"])["lock"].to_pylist()
    return sorted({int(tables[name]) for lock in locks if name in (tables := json.loads(lock)["tables"])})


def vacuum(lake: Lake, name: str, *, retention_hours: int = MIN_RETENTION_HOURS, dry_run: bool = False) -> list[str]:
    """Delete files that no version younger than the retention and no built manifest names; returns their paths.

    Only files that a rewrite removed are candidates, never parts that wait for their commit.

    Raises:
        ConfigurationError: The retention is shorter than seven days, or a pinned version cannot be opened.
    """
    if retention_hours < MIN_RETENTION_HOURS:
        raise ConfigurationError(
            f"retention {retention_hours} h is shorter than {MIN_RETENTION_HOURS} h (7 days)",
            remedy="readers and running orders may still need those files; choose 168 or more",
        )
    return _vacuum(lake, name, retention_hours, dry_run)


def _vacuum(lake: Lake, name: str, retention_hours: int, dry_run: bool) -> list[str]:
    keep: list[Any] = pinned_versions(lake, name)
    for version in keep:
        lake.table(name, version)  # raises typed, where delta-rs would not say which
    return lake.table(name).vacuum(
        retention_hours, dry_run=dry_run, enforce_retention_duration=False, full=False, keep_versions=keep or None
    )
