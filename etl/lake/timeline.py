"""Which version of a table was the latest at a date, and which versions can still be read.

A version stays readable while it was the latest at any moment of the retention, or a built manifest names it: that is
what vacuum keeps. Commit times are those the writers noted in the log, so they survive a copy of the lake; each by its
own clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from etl.errors import ConfigurationError, DataError
from etl.lake.lake import Lake
from etl.lake.parts import table_key
from etl.lake.pins import pinned_versions, read_pins
from etl.lake.schemas import TABLES, UNIT_TABLES
from etl.storage import NotFoundError

# How far the clocks of two writers may differ. What shows a unit as complete is taken at the date itself; its rows, and
# the rows they are joined to, up to this much later: the views hide those without a visible outcome, so taking them
# late is harmless, while taking them early would show half a unit.
SKEW = timedelta(minutes=2)
SHOWING = ("outcomes", "downloads")
_SHOWN = {*UNIT_TABLES, "shards", "annotators"} - set(SHOWING)
# Read at their latest in every state: what was taken down since must not show.
ALWAYS_LATEST = ("takedowns",)
_NAMED = 5  # manifests that an error names


class RetentionError(ConfigurationError):
    """A date or version is older than what the lake keeps readable."""


def readable_since(lake: Lake) -> datetime:
    """The earliest date whose state can be read: now less the retention."""
    return datetime.now(UTC) - timedelta(days=lake.settings.retention_days)


def version_at(lake: Lake, table: str, at: datetime) -> int:
    """The last version of a table whose commit time is not after ``at``; of a table made later its first, empty one.

    Reads some twenty log entries, however many there are.

    Raises:
        RetentionError: The date is older than the retention.
        ConfigurationError: It has no time zone, lies in the future, or before the lake.
        DataError: An entry of the log is missing or broken.
    """
    check_date(lake, at)
    return _last_until(lake, table, at, 0, lake.table(table).version())


def versions_at(lake: Lake, at: datetime) -> dict[str, int]:
    """The versions of all tables that show the lake as it was at a date; for the errors see ``version_at``."""
    check_date(lake, at)
    names = [name for name in TABLES if name not in ALWAYS_LATEST and lake.has(name)]
    with ThreadPoolExecutor(8) as pool:  # a store far away answers each look in milliseconds, and there are hundreds
        return dict(zip(names, pool.map(lambda name: _version_shown(lake, name, at), names), strict=True))


def check_date(lake: Lake, at: datetime) -> None:
    """Refuse a date whose state cannot be read.

    Raises:
        RetentionError: It is older than the retention.
        ConfigurationError: It has no time zone, lies in the future, or before the lake.
    """
    if at.tzinfo is None:
        raise ConfigurationError(f"{at} has no time zone", remedy=f"write for example {at.isoformat()}+00:00")
    if at > datetime.now(UTC) + SKEW:
        raise ConfigurationError(f"{_shown(at)} lies in the future", remedy="leave the date out for the present state")
    created, since = lake.created_at, readable_since(lake)
    if at < created:
        raise ConfigurationError(
            f"at {_shown(at)} there was no lake at {lake.uri}: it was made at {_shown(created)}",
            remedy=f"choose a date since {_shown(max(created, since))}",
        )
    if at < since:
        raise RetentionError(
            f"{_shown(at)} is older than the retention of {lake.settings.retention_days} days",
            remedy=f"readable are dates since {_shown(since)}{_pins_in_words(lake)}",
        )


def check_versions(lake: Lake, versions: Mapping[str, int]) -> None:
    """Refuse versions of tables that vacuum may have taken files of.

    Raises:
        RetentionError: One was replaced longer ago than the retention, and no built manifest names it.
        ConfigurationError: There is no such version.
    """
    since, pinned = readable_since(lake), pinned_versions(lake)
    for table, version in versions.items():
        if table in ALWAYS_LATEST or version in pinned.get(table, ()):
            continue
        latest = lake.table(table).version()
        if not 0 <= version <= latest:
            raise ConfigurationError(
                f"table {table!r} of {lake.uri} has no version {version}", remedy=f"its versions are 0 to {latest}"
            )
        if version < latest and commit_time(lake, table, version + 1) < since:
            first = _last_until(lake, table, since, version + 1, latest)
            raise RetentionError(
                f"version {version} of table {table!r}, of {_shown(commit_time(lake, table, version))}, was replaced "
                f"longer ago than the retention of {lake.settings.retention_days} days",
                remedy=f"readable are its versions {first} to {latest}{_pins_in_words(lake, table)}",
            )


def commit_time(lake: Lake, table: str, version: int) -> datetime:
    """When a version was committed, by the clock of its writer.

    Raises:
        DataError: Its log entry is missing or broken.
    """
    for action in _entry(lake, table, version):
        if "commitInfo" in action and "timestamp" in action["commitInfo"]:
            return datetime.fromtimestamp(action["commitInfo"]["timestamp"] / 1000, UTC)
    found = lake.store.stat(_entry_key(table, version))  # an entry that another engine wrote without its time
    return datetime.fromtimestamp(found.modified if found else 0.0, UTC)


def removed_rows(lake: Lake, table: str, version: int) -> bool:
    """Whether a version took rows out of its table, unlike an append or a compaction.

    Raises:
        DataError: Its log entry is missing or broken.
    """
    return any(
        "remove" in action and action["remove"].get("dataChange", True) for action in _entry(lake, table, version)
    )


def _version_shown(lake: Lake, table: str, at: datetime) -> int:
    latest = int(lake.table(table).version())
    version = _last_until(lake, table, at, 0, latest)
    if table not in _SHOWN:
        return version
    later = _last_until(lake, table, at + SKEW, version, latest)
    # Not beyond a removal of rows: an outcome that showed at the date may be of those.
    return next((n - 1 for n in range(version + 1, later + 1) if removed_rows(lake, table, n)), later)


def _last_until(lake: Lake, table: str, at: datetime, low: int, high: int) -> int:
    """The last version of ``low`` to ``high`` not after ``at``, else ``low``.

    Where clocks of writers differ, times do not quite ascend; the search then ends at one of the versions around the
    date, off by no more than the clocks are.
    """
    while low < high:
        middle = (low + high + 1) // 2
        if commit_time(lake, table, middle) <= at:
            low = middle
        else:
            high = middle - 1
    return low


def _entry_key(table: str, version: int) -> str:
    return f"{table_key(table)}/_delta_log/{version:020d}.json"


def _entry(lake: Lake, table: str, version: int) -> Iterator[dict[str, Any]]:
    """The actions of a log entry. Every entry is there, checkpoints or not: the tables' logs are never cleaned."""
    key = _entry_key(table, version)
    try:
        for line in lake.store.read(key).splitlines():
            yield json.loads(line)
    except NotFoundError as error:
        raise DataError(f"the log of table {table!r} lacks {key}", remedy="run 'groundlake lake check'") from error
    except ValueError as error:
        raise DataError(f"{key} is not a log entry: {error}", remedy="run 'groundlake lake check'") from error


def _pins_in_words(lake: Lake, table: str | None = None) -> str:
    pins = [f"{pin.name}/{pin.version}" for pin in read_pins(lake) if table is None or table in pin.tables]
    latest = ", ".join(pins[: -_NAMED - 1 : -1]) + (f" and {len(pins) - _NAMED} more" if len(pins) > _NAMED else "")
    return f", and what manifests were built from (groundlake sql --manifest): {latest}" if pins else ""


def _shown(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
