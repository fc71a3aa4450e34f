"""A backup that is killed leaves a consistent lake, or none; what was begun is completed by the same call."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lake_copies import consistent, errors, grow, killed, same_rows
from sound_lake import Sound

from etl.errors import ConfigurationError, RetryableError
from etl.lake import Lake
from etl.lake.backup import backup, restore
from etl.settings import Settings
from etl.storage import LocalStore


def test_a_first_backup_that_was_killed_is_no_lake_until_it_is_completed(made: Sound, place: str) -> None:
    for writes in (0, 7, 20, 15):
        assert killed(lambda: backup(made.lake, place), writes, place)
        with pytest.raises(ConfigurationError, match="no lake"):
            Lake.open(place, made.lake.settings)
    backup(made.lake, place)
    same_rows(Lake.open(place, made.lake.settings), made.lake)


@pytest.mark.parametrize("writes", [24])
def test_a_backup_killed_while_it_is_renewed_stays_a_consistent_lake(made: Sound, place: str, writes: int) -> None:
    backup(made.lake, place)
    grow(made)
    assert killed(lambda: backup(made.lake, place), writes, place)
    consistent(Lake.open(place, made.lake.settings))
    backup(made.lake, place)
    same_rows(Lake.open(place, made.lake.settings), made.lake)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_backup_killed_at_any_write_stays_a_consistent_lake(made: Sound, place: str, tmp_path: Path) -> None:
    backup(made.lake, place)
    grow(made)
    kept = tmp_path / "kept"
    shutil.copytree(place, kept)
    writes = 0
    while killed(lambda: backup(made.lake, place), writes, place):
        assert errors(Lake.open(place, made.lake.settings)) == []
        shutil.rmtree(place)
        shutil.copytree(kept, place)
        writes += 1
    assert writes > 20


def test_a_restore_that_was_killed_is_completed(made: Sound, place: str, tmp_path: Path, settings: Settings) -> None:
    backup(made.lake, place)
    to = str(tmp_path / "restored")
    for writes in (5, 30):
        assert killed(lambda: restore(place, to, settings), writes, to)
    with pytest.raises(ConfigurationError, match="a restore that has not ended"):
        backup(made.lake, to)
    restore(place, to, settings)
    same_rows(Lake.open(to, settings), made.lake)


def test_a_restore_of_another_backup_does_not_complete_it(made: Sound, tmp_path: Path, settings: Settings) -> None:
    other = Lake.create(str(tmp_path / "other"), settings)
    to = str(tmp_path / "restored")
    assert killed(lambda: restore(other.uri, to, settings), 8, to)
    with pytest.raises(ConfigurationError, match="a restore of another lake"):
        restore(made.lake.uri, to, settings)


def test_a_store_that_fails_leaves_what_can_be_completed(
    made: Sound, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl.storage import StorageError

    def full(self: LocalStore, key: str, data: bytes) -> None:
        raise StorageError("write", key, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put", full)
        with pytest.raises(RetryableError, match="no space left"):
            backup(made.lake, place)
    backup(made.lake, place)
    same_rows(Lake.open(place, made.lake.settings), made.lake)
