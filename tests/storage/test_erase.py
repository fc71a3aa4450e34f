"""Erasing spans of an object: for good, whoever else erases at the same time, wherever it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from etl.storage import LocalStore, NotFoundError, StorageError, Store, open_store

DATA = b"0123456789" * 10


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    uri = str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3_uri")
    return open_store(uri)


def without(data: bytes, *spans: tuple[int, int]) -> bytes:
    erased = bytearray(data)
    for offset, length in spans:
        erased[offset : offset + length] = bytes(length)
    return bytes(erased)


# What to erase of the hundred bytes, and how many that is.
SPANS = {
    "inside": ([(3, 4)], 4),
    "the first byte": ([(0, 1)], 1),
    "the last byte": ([(99, 1)], 1),
    "all": ([(0, 100)], 100),
    "several, in any order": ([(50, 10), (0, 5)], 15),
    "overlapping ones count once": ([(10, 10), (15, 10), (12, 1)], 15),
    "neighbours": ([(10, 10), (20, 10)], 20),
    "an empty one among others": ([(7, 0), (3, 2)], 2),
    "an empty one at the end": ([(100, 0)], 0),
    "none": ([], 0),
}


def test_the_spans_become_zeros_and_every_other_byte_stays(store: Store) -> None:
    for case, (spans, count) in SPANS.items():
        store.put(case, DATA)
        for _ in range(2):  # a repetition changes nothing, and says the same
            assert (case, store.erase(case, spans)) == (case, count)
            assert (case, store.read(case)) == (case, without(DATA, *spans))
    assert {found.key for found in store.list("")} == set(SPANS)


@pytest.mark.parametrize("spans", [[(0, 10), (95, 6)], [(100, 1)], [(200, 5)]], ids=["over", "at", "after"])
def test_a_span_beyond_the_end_is_refused_before_anything_is_erased(store: Store, spans: list[tuple[int, int]]) -> None:
    store.put("key", DATA)
    with pytest.raises(StorageError, match=r"cannot erase 'key': bytes up to \d+ wanted, 100 there"):
        store.erase("key", spans)
    assert store.read("key") == DATA


def test_a_negative_span_is_refused(store: Store) -> None:
    store.put("key", DATA)
    with pytest.raises(ValueError, match="offset -1"):
        store.erase("key", [(-1, 5)])


def test_nothing_can_be_erased_in_what_is_not_there(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no object 'key'"):
        store.erase("key", [(0, 1)])


def test_many_calls_for_different_spans_at_once_all_hold(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("key", DATA * 1000)
    spans = [(n * 5000, 4000) for n in range(20)]
    threads = [threading.Thread(target=store.erase, args=("key", [span])) for span in spans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("key") == without(DATA * 1000, *spans)


_ERASER = """
import os, sys
from pathlib import Path
from etl.storage import LocalStore
write, calls = os.pwrite, []
def slowly(descriptor, data, offset):
    if len(calls) == 2:
        print("half-way", flush=True)
        sys.stdin.readline()
    calls.append(offset)
    return write(descriptor, data[:1000], offset)  # as a disk may
os.pwrite = slowly
LocalStore(Path(sys.argv[1])).erase("key", [(10, 5000)])
"""


def test_killed_half_way_it_is_completed_by_calling_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("key", DATA * 100)
    command = [sys.executable, "-c", _ERASER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as eraser:
        assert eraser.stdout is not None
        assert eraser.stdout.readline() == "half-way\n"
        eraser.send_signal(signal.SIGKILL)
    assert store.read("key") == without(DATA * 100, (10, 2000))
    assert store.erase("key", [(10, 5000)]) == 5000
    assert store.read("key") == without(DATA * 100, (10, 5000))


def test_a_hard_link_of_the_object_is_erased_with_it(tmp_path: Path) -> None:
    """Bytes live in a file, not under a name: a copy made by linking must not keep them."""
    store = LocalStore(tmp_path)
    store.put("key", DATA)
    os.link(tmp_path / "key", tmp_path / "other")
    store.erase("key", [(0, 100)])
    assert store.read("other") == bytes(100)


def test_destroying_is_deleting_where_there_are_no_versions(store: Store) -> None:
    store.put("key", b"x")
    store.destroy("key")
    store.destroy("key")
    assert store.stat("key") is None
