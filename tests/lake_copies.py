"""Backups of a lake in tests: killed at some write, and compared with the lake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from sound_lake import Sound

from etl.lake import Lake, maintenance
from etl.lake.check import Finding, Scope, check
from etl.lake.check.bench import Bench
from etl.lake.check.files import check_files
from etl.lake.check.orphans import check_orphans
from etl.lake.check.phases import check_logs
from etl.lake.schemas import TABLES
from etl.storage import LocalStore


def same_rows(one: Lake, other: Lake) -> None:
    """Every table of ``one`` holds what that version of ``other``'s holds."""
    for name in TABLES:
        found = one.table(name)
        expected = other.table(name, found.version()).to_pyarrow_table()
        keys = [
            (column, "ascending") for column in expected.column_names if not pa.types.is_list(expected[column].type)
        ]
        assert found.to_pyarrow_table().sort_by(keys) == expected.sort_by(keys), name


def errors(lake: Lake, **scope: Any) -> list[Finding]:
    return [one for one in check(lake, Scope(tuple(TABLES), **scope)) if one.severity == "error"]


def killed(call: Callable[[], object], writes: int, place: str) -> bool:
    """Call something that dies after that many writes to a place; whether it did."""
    left = [writes]

    def dying(method: Callable[..., Any]) -> Callable[..., Any]:
        def write(self: LocalStore, *given: Any) -> Any:
            if self.uri == place:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            return method(self, *given)

        return write

    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "put_if_absent", "publish_file"):
            patch.setattr(LocalStore, name, dying(getattr(LocalStore, name)))
        try:
            call()
        except KeyboardInterrupt:
            return True
    return False


def grow(made: Sound) -> None:
    """Changes to most tables, among them a compaction."""
    other = Sound(made.lake, source="more")
    other.download()
    other.annotate("tag")
    other.manifest("second")
    maintenance.compact(made.lake, "outcomes")
    made.append("takedowns", {"value": "1" * 32})


def consistent(lake: Lake) -> None:
    """Nothing in it is half there, whichever state it is of."""
    bench = Bench(lake, Scope(("outcomes", "tags", "images")))
    found = [
        one for phase in (check_logs, check_files, check_orphans) for one in phase(bench, lambda done, total: None)
    ]
    assert [one for one in found if one.severity == "error"] == []
