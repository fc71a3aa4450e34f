"""What every store promises, held by one table of behaviours over a folder and over an S3 server on loopback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etl.errors import ConfigurationError, DataError, RetryableError
from etl.storage import NotFoundError, StorageError, Store, open_store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    uri = str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3_uri")
    return open_store(uri)


def test_reads_what_was_put(store: Store) -> None:
    store.put("folder/key", b"bytes")
    assert store.read("folder/key") == b"bytes"


def test_put_replaces(store: Store) -> None:
    store.put("key", b"first, and longer")
    store.put("key", b"second")
    assert store.read("key") == b"second"


def test_put_if_absent_writes_once_and_keeps_the_first(store: Store) -> None:
    assert store.put_if_absent("key", b"first") is True
    assert store.put_if_absent("key", b"second") is False
    assert store.put_if_absent("key", b"first") is False, "equal bytes of another caller are another caller's"
    assert store.read("key") == b"first"


def test_of_many_writers_at_once_exactly_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.put_if_absent("key", b"%d" % n), range(16)))
    assert won.count(True) == 1
    assert store.read("key") == b"%d" % won.index(True)


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 10, b"0123456789"), (3, 4, b"3456"), (9, 1, b"9"), (4, 0, b"")],
    ids=["all", "inside", "last byte", "nothing"],
)
def test_reads_a_range(store: Store, offset: int, length: int, expected: bytes) -> None:
    store.put("key", b"0123456789")
    assert store.read_range("key", offset, length) == expected


@pytest.mark.parametrize(("offset", "length"), [(8, 3), (10, 1), (99, 1)], ids=["past end", "at end", "far past"])
def test_a_range_beyond_the_end_is_an_error_not_fewer_bytes(store: Store, offset: int, length: int) -> None:
    store.put("key", b"0123456789")
    with pytest.raises(StorageError, match=f"{length} bytes from {offset} wanted"):
        store.read_range("key", offset, length)


def test_reads_many_ranges_in_the_order_asked_for(store: Store) -> None:
    """Near ones together, far ones by themselves; overlapping, equal, empty ones and the last byte."""
    data = bytes(range(250)) * 1000
    store.put("key", data)
    spans = [(240_000, 9), (3, 4), (5, 10), (0, 0), (249_999, 1), (3, 4), (120_000, 100), (250_000, 0)]
    assert store.read_ranges("key", spans) == [data[offset : offset + length] for offset, length in spans]
    assert store.read_ranges("key", []) == []


@pytest.mark.parametrize("span", [(8, 3), (10, 1), (99, 1)], ids=["past end", "at end", "far past"])
def test_one_of_many_ranges_beyond_the_end_is_an_error(store: Store, span: tuple[int, int]) -> None:
    store.put("key", b"0123456789")
    with pytest.raises(StorageError, match=f"{span[1]} bytes from {span[0]} wanted"):
        store.read_ranges("key", [(0, 1), span, (2, 2)])


@pytest.mark.parametrize("operation", ["read", "read_range", "read_ranges", "download", "read_json"])
def test_reading_what_is_not_there_names_the_key(store: Store, operation: str, tmp_path: Path) -> None:
    arguments = {"read_range": (0, 1), "read_ranges": ([(0, 1)],), "download": (tmp_path / "copy",)}.get(operation, ())
    with pytest.raises(NotFoundError, match="no object 'some/key'"):
        getattr(store, operation)("some/key", *arguments)
    assert not list(tmp_path.glob("copy*"))
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_folder_is_not_an_object(store: Store) -> None:
    store.put("folder/key", b"")
    assert store.stat("folder") is None
    with pytest.raises(NotFoundError):
        store.read("folder")


def test_publishes_and_downloads_a_file_of_several_megabytes(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * (17 << 12)  # 17 MiB: more than one part of a multipart upload
    (tmp_path / "file").write_bytes(data)
    store.publish_file(tmp_path / "file", "tars/one.tar")
    assert store.read_range("tars/one.tar", (16 << 20) - 2, 4) == bytes([254, 255, 0, 1])
    store.download("tars/one.tar", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_publishing_a_missing_file_is_an_error_of_this_side(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write 'key'"):
        store.publish_file(tmp_path / "missing", "key")
    assert store.stat("key") is None


def test_download_into_a_missing_folder_does_not_blame_the_object(store: Store, tmp_path: Path) -> None:
    store.put("key", b"bytes")
    with pytest.raises(StorageError, match="cannot download 'key'"):
        store.download("key", tmp_path / "missing" / "copy")


def test_stat_tells_size_and_time_or_none(store: Store) -> None:
    assert store.stat("folder/key") is None
    store.put("folder/key", b"12345")
    found = store.stat("folder/key")
    assert found is not None
    assert (found.key, found.size) == ("folder/key", 5)
    assert found.modified > 1.7e9


def test_lists_by_prefix_in_key_order(store: Store) -> None:
    for key in ("b/1", "a/2", "a-x", "a/10", "ab", "a/sub/3"):
        store.put(key, b"x")
    assert [found.key for found in store.list("")] == ["a-x", "a/10", "a/2", "a/sub/3", "ab", "b/1"]
    assert [found.key for found in store.list("a/")] == ["a/10", "a/2", "a/sub/3"]
    assert [found.key for found in store.list("a/1")] == ["a/10"]
    assert list(store.list("none/")) == []


def test_delete_removes_and_forgives(store: Store) -> None:
    store.put("folder/key", b"x")
    store.delete("folder/key")
    store.delete("folder/key")
    assert store.stat("folder/key") is None


@pytest.mark.parametrize("key", ["../key", "a/../../key", "/etc/hostname"])
@pytest.mark.parametrize("operation", ["read", "stat", "delete", "list"])
def test_no_key_leads_out_of_the_store(store: Store, operation: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match="leads outside the store"):
        list(getattr(store, operation)(key) or ())


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"], ids=["cut", "no mapping", "no text"])
def test_read_json_refuses_what_is_no_mapping(store: Store, content: bytes) -> None:
    store.put("key", content)
    with pytest.raises(DataError, match="JSON"):
        store.read_json("key")


def test_the_probe_passes_and_leaves_nothing(store: Store) -> None:
    store.probe()
    assert list(store.list("")) == []


def test_an_error_of_the_place_is_retryable_and_a_missing_object_is_not() -> None:
    assert issubclass(StorageError, RetryableError)
    assert not issubclass(NotFoundError, RetryableError)
