"""A folder as a store: what it does when the disk does not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from etl.errors import ConfigurationError
from etl.storage import LocalStore, StorageError


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def _failing(number: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_says_so_and_leaves_nothing_half_written(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store.put("folder/key", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, _failing(errno.ENOSPC))
        with pytest.raises(StorageError, match=r"cannot write 'folder/key'.*No space left(.|\n)*free space"):
            store.put("folder/key", b"new")
    assert store.read("folder/key") == b"old"
    assert [path.name for path in (store.root / "folder").iterdir()] == ["key"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_hard_links_is_refused_by_the_probe(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "link", _failing(number))
    with pytest.raises(ConfigurationError, match=r"no hard links(.|\n)*another file system"):
        store.probe()


def test_a_key_below_a_file_is_an_error_never_a_lost_race(store: LocalStore) -> None:
    store.put("key", b"x")
    with pytest.raises(StorageError, match="cannot write 'key/below'"):
        store.put_if_absent("key/below", b"y")
    assert store.stat("key/below") is None


def test_what_another_writer_has_not_finished_is_not_listed(store: LocalStore) -> None:
    store.put("folder/key", b"x")
    (store.root / "folder" / ".tmp-123").write_bytes(b"half")
    assert [found.key for found in store.list("folder/")] == ["folder/key"]


def test_a_folder_needs_no_options_for_delta(store: LocalStore) -> None:
    assert store.delta_options() is None
