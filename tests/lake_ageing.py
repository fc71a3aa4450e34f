"""Making a lake on disk look as if days had passed; numbered rows that are easy to compare; dying at a given place."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rows import row

from etl.lake import Lake, maintenance
from etl.lake.ids import digest

DAY = 24 * 3600.0


class Killed(BaseException):
    """The process ends here; no handler of ours may catch it."""


def fill(lake: Lake, start: int, files: int, rows: int = 5) -> None:
    """Append ``files`` files of numbered tombstones."""
    for number in range(start, start + files):
        values = [row("takedowns", kind="image_id", value=f"{number * rows + n:06d}") for n in range(rows)]
        lake.append("takedowns", values, digest("fill", number))


def values(lake: Lake) -> list[str]:
    """The numbers in the table, in order."""
    return sorted(lake.table("takedowns").to_pyarrow_table()["value"].to_pylist())


def expected(count: int) -> list[str]:
    """The numbers that ``fill`` wrote."""
    return [f"{n:06d}" for n in range(count)]


def age_log(lake: Lake, table: str, days: float) -> None:
    """Let the removals of a table have happened that long ago, as the log tells it."""
    moment = int((time.time() - days * DAY) * 1000)
    for file in (Path(lake.table_uri(table)) / "_delta_log").glob("*.json"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            if "remove" in line:
                line["remove"]["deletionTimestamp"] = moment
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(file, (moment / 1000, moment / 1000))


def age_files(folder: Path, days: float) -> None:
    """Let every file below a folder have been written that long ago."""
    moment = time.time() - days * DAY
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (moment, moment))


def sweep(lake: Lake, days_later: float = 8, **given: Any) -> dict[str, int]:
    """What a sweep takes that is run so many days from now: how many by kind."""
    swept = maintenance.sweep(lake, now=time.time() + days_later * DAY, **given)
    return {kind: one.count for kind, one in swept.taken.items()}


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def register_manifest(lake: Lake, versions: dict[str, int]) -> None:
    """A manifest that was built from these versions."""
    values = row("manifests", name="m", lock=json.dumps({"tables": versions}), built_at=datetime.now(UTC))
    lake.append("manifests", [values], digest("manifest", versions))


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, owner: object, method: str, nth: int, *, after: bool) -> Iterator[None]:
    """Die at the ``nth`` call (from 1) of a method, before or after it does its work."""
    real: Callable[..., object] = getattr(owner, method)
    calls = 0

    def deadly(*args: object, **given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth and not after:
            raise Killed
        answer = real(*args, **given)
        if calls == nth:
            raise Killed
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, deadly)
        yield
