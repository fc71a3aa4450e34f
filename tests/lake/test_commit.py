"""The commit: rows enter a table once, whatever its answer was, and never after a fence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, SchemaMismatchError
from deltalake.transaction import AddAction
from fault_proxy import FaultProxy
from rows import image, rows

from etl.errors import ConfigurationError, RetryableError
from etl.lake import Lake
from etl.lake.commit import FENCED, CommitTimeoutError, FencedError, commit
from etl.lake.commit import fence as fence_off
from etl.lake.maintenance import compact
from etl.lake.migrations import bring_up
from etl.lake.parts import add_action, write_part
from etl.lake.schemas import TABLES
from etl.settings import Settings
from etl.storage import LastingError, open_store

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
        return Handle(self.lake.table("tags"), self._before, self._after)

    def _before(self) -> None:
        self.writes += 1
        if self.before and self.writes <= self.times:
            self.before()

    def _after(self) -> None:
        if self.after and self.writes <= self.times:
            self.after()


def raising(error: Exception) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


@pytest.fixture
def parts(lake: Lake) -> list[AddAction]:
    """Two parts of three rows each."""
    data = rows("tags", *({"image_id": image(name)} for name in "abc"))
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
    "an error that passes after a while": {"before": raising(OSError("connection reset")), "times": 5},
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


def test_a_fenced_unit_adds_nothing(lake: Lake, parts: list[AddAction]) -> None:
    fence(lake)
    with pytest.raises(FencedError, match="the next plan takes its images again"):
        go(Opener(lake), parts)
    assert count(lake) == 0


def other(lake: Lake) -> None:
    """Another unit's two parts, committed: what a compaction merges."""
    parts = [write_part(lake.store, "tags", rows("tags", {}), "other", f"{n:05d}") for n in range(2)]
    lake.commit("tags", "other", [add_action(lake.store, part) for part in parts])


def twin(lake: Lake) -> None:
    """One row of ours, committed by a twin whose slices came out otherwise."""
    part = write_part(lake.store, "tags", rows("tags", {}), KEY, "00000")
    lake.commit("tags", KEY, [add_action(lake.store, part)])


def compaction(lake: Lake) -> None:
    assert compact(lake, "tags").files_before > 1


def checkpoint(lake: Lake) -> None:
    lake.table("tags").create_checkpoint()


def lost(lake: Lake) -> None:
    raise OSError("the answer was lost")


# What others do (in this order) before our write or after it, once our look at the table is over; rows we end with of
# ours (six, or the twin's one; none and an error when the unit was fenced) and of others'.
INTERLEAVINGS: dict[str, tuple[list[Any], list[Any], int | None, int]] = {
    "others commit": ([other], [], 6, 2),
    "others commit and are compacted": ([other, compaction], [], 6, 2),
    "others are compacted, a checkpoint follows": ([other, compaction, checkpoint], [], 6, 2),
    "a twin commits": ([twin], [], 1, 0),
    "a twin commits and is compacted with others": ([other, twin, compaction], [], 1, 2),
    "a twin commits, and our answer is lost": ([twin, lost], [], 1, 0),
    "we are compacted before we hear of it": ([], [compaction], 6, 0),
    "we are compacted, and the answer is lost": ([], [compaction, lost], 6, 0),
    "we are compacted with others, and the answer is lost": ([other], [compaction, checkpoint, lost], 6, 2),
    "a fence falls": ([fence], [], None, 0),
    "a fence falls among others": ([other, fence, compaction], [], None, 2),
    "a fence falls, and the answer is lost": ([fence, lost], [], None, 0),
    "a fence comes too late": ([], [lambda lake: lake.fence("tags", KEY)], 6, 0),
    "a fence comes too late, and the answer is lost": ([], [lambda lake: lake.fence("tags", KEY), lost], 6, 0),
}


@pytest.mark.parametrize(("before", "after", "ours", "others"), INTERLEAVINGS.values(), ids=INTERLEAVINGS)
def test_whatever_happens_meanwhile_rows_are_there_once_or_not_at_all(
    lake: Lake, parts: list[AddAction], before: list[Any], after: list[Any], ours: int | None, others: int
) -> None:
    opener = Opener(lake, before=lambda: [one(lake) for one in before], after=lambda: [one(lake) for one in after])
    if ours is None:
        with pytest.raises(FencedError):
            go(opener, parts)
    else:
        go(opener, parts)
        go(Opener(lake), parts)  # as does its retry
    assert count(lake) == (ours or 0) + others


# The same for a fence: what others do before its write or after it, and whether the unit is dead then.
FENCES: dict[str, tuple[list[Any], list[Any], bool]] = {
    "nothing": ([], [], True),
    "another fence": ([fence], [], True),
    "another fence, and our answer is lost": ([fence, lost], [], True),
    "the answer is lost": ([], [lost], True),
    "the unit commits": ([twin], [], False),
    "the unit commits and is compacted": ([other, twin, compaction], [], False),
    "others are compacted": ([other, compaction], [], True),
}


@pytest.mark.parametrize(("before", "after", "dead"), FENCES.values(), ids=FENCES)
def test_a_fence_says_whether_it_holds_and_then_it_does(
    lake: Lake, parts: list[AddAction], before: list[Any], after: list[Any], dead: bool
) -> None:
    opener = Opener(lake, before=lambda: [one(lake) for one in before], after=lambda: [one(lake) for one in after])
    assert fence_off(opener, KEY, deadline=60, sleep=lambda _: None) is dead
    if dead:
        with pytest.raises(FencedError):
            go(Opener(lake), parts)
    else:
        go(Opener(lake), parts)
    assert lake.fence("tags", KEY) is dead


# A fault that lasts: what delta-rs says of it, and the error that ends the commit at once.
LASTING = {
    "No space left on device (os error 28)": LastingError,
    "Read-only file system (os error 30)": ConfigurationError,
    "Server returned non-2xx status code\n 403 Forbidden": ConfigurationError,
    "<Code>ExpiredToken</Code>": LastingError,
}


@pytest.mark.parametrize(("text", "error"), LASTING.items(), ids=LASTING)
@pytest.mark.parametrize("written", [False, True], ids=["not written", "written all the same"])
def test_what_waiting_does_not_mend_ends_it_after_one_more_look(
    lake: Lake, parts: list[AddAction], text: str, error: type[Exception], written: bool
) -> None:
    opener = Opener(lake, **{"after" if written else "before": raising(OSError(text))}, times=10**6)
    if written:
        assert go(opener, parts) == 1
    else:
        with pytest.raises(error, match="nothing is lost, it resumes"):
            go(opener, parts)
    assert opener.writes == 1
    go(Opener(lake), parts)  # the cause is mended, the command was run again
    assert count(lake) == 6


def test_credentials_that_expire_while_we_look_end_it_too(lake: Lake, parts: list[AddAction]) -> None:
    def expired() -> Any:
        raise LastingError("open table", "tags", "the credentials have expired")

    with pytest.raises(LastingError, match="have expired"):
        go(expired, parts)


# What happens on S3 to the request that writes the log entry; how many rows the table has when the commit returns.
ON_THE_WIRE = ("lost", "false", "late", "cut", "reset", "slow_down", "error")


def test_on_s3_a_log_entry_whose_answer_is_lost_late_or_wrong_is_there_once(
    s3_uri: str, s3_server: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(s3_server, delay=0.6) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        lake = Lake(open_store(s3_uri), settings)
        bring_up(lake.store, TABLES["tags"], deadline=60)
        options = {**(lake.store.delta_options() or {}), "timeout": "300ms"}
        for number, fault in enumerate(ON_THE_WIRE, 1):
            key = f"{fault:0>32}"
            part = write_part(lake.store, "tags", rows("tags", {}), key, "00000")
            proxy.rule(fault, method="PUT", path="_delta_log")
            commit(
                lambda: DeltaTable(lake.table_uri("tags"), storage_options=options),
                key,
                [add_action(lake.store, part)],
                deadline=60,
            )
            assert proxy.counts[fault] == 1
            assert (lake.table("tags").version(), count(lake)) == (number, number)


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
