"""A folder as a store: what it does when the disk does not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from etl.errors import ConfigurationError
from etl.storage import LastingError, LocalStore, StorageError


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


# What a disk may say, and the error that it makes: one that waits for somebody, or one that trying again cannot mend.
SAID = {
    errno.ENOSPC: (LastingError, r"the disk is full(.|\n)*free space"),
    errno.EDQUOT: (LastingError, r"quota is used up(.|\n)*raise it"),
    errno.EFBIG: (LastingError, r"larger than allowed(.|\n)*ulimit -f"),
    errno.EROFS: (ConfigurationError, r"read-only(.|\n)*mount it writable"),
    errno.EACCES: (ConfigurationError, r"may not do this(.|\n)*write access"),
    errno.EMFILE: (StorageError, r"too many open files(.|\n)*ulimit -n"),
    errno.EIO: (StorageError, r"Input/output error(.|\n)*run the command again"),
}


@pytest.mark.parametrize(("number", "error", "text"), [(n, *said) for n, said in SAID.items()])
def test_what_the_disk_says_is_told_in_words_with_the_operation_and_the_key(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], text: str
) -> None:
    store.put("key", b"old")
    fail = _failing(number)
    for operation, told, broken in (
        (lambda: store.put("key", b"new"), "write 'key'", "os.fsync"),
        (lambda: store.put_if_absent("other", b"new"), "write 'other'", "os.fsync"),
        (lambda: store.publish_file(tmp_path / "store" / "key", "other"), "write 'other'", "shutil.copyfile"),
        (lambda: store.download("key", tmp_path / "copy"), "download 'key'", "shutil.copyfile"),
        (lambda: store.read("key"), "read 'key'", "pathlib.Path.read_bytes"),
        (lambda: store.read_ranges("key", [(0, 1)]), "read 'key'", "pathlib.Path.open"),
        (lambda: store.erase("key", [(0, 1)]), "erase 'key'", "os.pwrite"),
        (lambda: list(store.list("fol")), "list 'fol'", "os.scandir"),
        (lambda: store.delete("key"), "delete 'key'", "pathlib.Path.unlink"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            with pytest.raises(error, match=f"cannot {told}(.|\n)*{text}") as caught:
                operation()
            assert type(caught.value) is error
    assert store.read("key") == b"old"
    assert [path.name for path in store.root.iterdir()] == ["key"]


def test_a_listing_reads_one_folder_at_a_time(store: LocalStore) -> None:
    """So that a lake's keys are never all in memory; what changes in a folder not yet reached is seen."""
    for key in ("a/1", "a/2", "c/1"):
        store.put(key, b"x")
    found = store.list("")
    assert next(found).key == "a/1"
    store.put("c/2", b"x")
    store.delete("a/2")
    assert [one.key for one in found] == ["c/1", "c/2"]


def test_links_to_folders_are_not_followed(store: LocalStore, tmp_path: Path) -> None:
    store.put("a/1", b"x")
    (store.root / "loop").symlink_to(store.root)
    assert [one.key for one in store.list("")] == ["a/1"]


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
