"""Temporary folders never outlive their process for long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from etl.stages.scratch import scratch_folder


def age(folder: Path) -> None:
    os.utime(folder, (1, 1))


def test_the_folder_is_gone_afterwards_also_after_an_error(tmp_path):
    def break_inside() -> None:
        with scratch_folder(tmp_path / "scratch") as folder:
            (folder / "0.tar").write_bytes(b"x")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        break_inside()

    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    left = tmp_path / "stage-left"
    left.mkdir()
    (left / "0.tar").write_bytes(b"x")
    (left / "lock").touch()
    age(left)

    with scratch_folder(tmp_path):
        assert not left.exists()


def test_what_a_living_process_uses_is_kept_however_old(tmp_path):
    with scratch_folder(tmp_path) as mine:
        age(mine)
        with scratch_folder(tmp_path):
            assert mine.exists()


def test_what_was_just_made_is_kept_though_not_locked_yet(tmp_path):
    (tmp_path / "stage-young").mkdir()

    with scratch_folder(tmp_path):
        assert (tmp_path / "stage-young").exists()
