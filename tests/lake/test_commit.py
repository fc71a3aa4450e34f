"""The commit: rows enter a table once, whatever its answer was, and never after a fence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, SchemaMismatchError
from deltalake.transaction import AddAction
from rows import rows

from etl.errors import ConfigurationError, RetryableError
from etl.lake import Lake
from etl.lake.commit import FENCED, CommitTimeoutError, FencedError, commit
from etl.lake.parts import add_action, write_part

KEY = "0123456789abcdef0123456789abcdef"


class Handle:
    """A handle on a real table whose write does something before or after the real one."""

    def __init__(self, table: DeltaTable, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._table, self._before, self._after = table, before, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def create_write_transaction(self, *arguments: Any, **options: Any) -> None:
        self._before()
        self._table.create_write_transaction(*arguments, **options)
        self._after()


class Opener:
    """Opens the table; the first ``times`` handles are faulty."""

    def __init__(self, lake: Lake, *, before: Any = None, after: Any = None, times: int = 1) -> None:
        self.lake, self.before, self.after, self.times, self.writes = lake, before, after, times, 0

    def __call__(self) -> Any:
        return Handle(self.lake.table("tags"), lambda: self._fault(self.before), lambda: self._fault(self.after))

    def _fault(self, fault: Callable[[], None] | None) -> None:
        if fault is None:
            return
        self.writes += 1
        if self.writes <= self.times:
            fault()


def raising(error: Exception) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


@pytest.fixture
def parts(lake: Lake) -> list[AddAction]:
    """Two parts of three rows each."""
    data = rows("tags", {"image_id": "a"}, {"image_id": "b"}, {"image_id": "c"})
    return [add_action(lake.store, write_part(lake.store, "tags", data, KEY, f"{n:05d}")) for n in range(2)]


def count(lake: Lake) -> int:
    return lake.table("tags").to_pyarrow_table().num_rows


def go(opener: Callable[[], Any], parts: list[AddAction], deadline: float = 60) -> int:
    return commit(opener, KEY, parts, deadline=deadline, sleep=lambda _: None)


def fence(lake: Lake) -> None:
    table = lake.table("tags")
    properties = CommitProperties(app_transactions=[Transaction(KEY, FENCED)])
    table.create_write_transaction([], "append", table.schema(), commit_properties=properties)


# What goes wrong (with the handle on the table, before or after its write), and how often.
FAULTS = {
    "nothing": {},
    "an error, nothing was written": {"before": raising(OSError("timed out"))},
    "a disk that is full for a while": {"before": raising(OSError(28, "No space left on device")), "times": 5},
    "an error although it was written": {"after": raising(OSError("connection cut"))},
    "a conflict with our own commit": {"after": raising(CommitFailedError("Concurrent transaction failed"))},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_rows_are_there_once(lake: Lake, parts: list[AddAction], fault: dict[str, Any]) -> None:
    version = go(Opener(lake, **fault), parts)
    assert count(lake) == 6
    assert version == lake.table("tags").version() == 1


def test_a_replay_from_a_fresh_handle_adds_nothing(lake: Lake, parts: list[AddAction]) -> None:
    go(Opener(lake), parts)
    go(Opener(lake), parts)
    assert count(lake) == 6


def test_a_twin_that_commits_behind_a_stale_handle_makes_us_adopt_its_commit(
    lake: Lake, parts: list[AddAction]
) -> None:
    twin = write_part(lake.store, "tags", rows("tags", {"image_id": "a"}), KEY, "00000")
    opener = Opener(lake, before=lambda: lake.commit("tags", KEY, [add_action(lake.store, twin)]))
    go(opener, parts)
    assert count(lake) == 1, "the twin's row only: one transaction per key"


def test_other_units_between_our_look_and_our_write_do_no_harm(lake: Lake, parts: list[AddAction]) -> None:
    def others() -> None:
        for number in range(3):
            part = write_part(lake.store, "tags", rows("tags", {}), f"other{number}", "00000")
            lake.commit("tags", f"other{number}", [add_action(lake.store, part)])

    go(Opener(lake, before=others), parts)
    assert count(lake) == 9


def test_a_fenced_unit_adds_nothing(lake: Lake, parts: list[AddAction]) -> None:
    fence(lake)
    with pytest.raises(FencedError, match="the next plan takes its images again"):
        go(Opener(lake), parts)
    assert count(lake) == 0


def test_a_fence_that_falls_behind_a_stale_handle_still_holds(lake: Lake, parts: list[AddAction]) -> None:
    with pytest.raises(FencedError):
        go(Opener(lake, before=lambda: fence(lake)), parts)
    assert count(lake) == 0


def test_past_the_deadline_it_ends_retryable_and_names_the_cause(lake: Lake, parts: list[AddAction]) -> None:
    with pytest.raises(CommitTimeoutError, match=r"the store is away(.|\n)*it resumes") as caught:
        go(Opener(lake, before=raising(OSError("the store is away")), times=10**6), parts, deadline=0.1)
    assert isinstance(caught.value, RetryableError)
    assert count(lake) == 0


def test_past_the_deadline_it_looks_once_more(lake: Lake, parts: list[AddAction]) -> None:
    go(Opener(lake, after=raising(OSError("connection cut"))), parts, deadline=0)
    assert count(lake) == 6


def test_a_table_of_another_shape_is_not_tried_again(lake: Lake, parts: list[AddAction]) -> None:
    opener = Opener(lake, before=raising(SchemaMismatchError("column x")), times=10**6)
    with pytest.raises(ConfigurationError, match="does not fit the table"):
        go(opener, parts)
    assert opener.writes == 1
