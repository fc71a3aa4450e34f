"""What a demo remembers: a pid is only itself together with its start time, and files are whole or absent."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from etl.demo.state import ProcessRef, State, write_whole


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / ".demo")


def test_a_living_process_is_found_by_pid_and_start_time() -> None:
    me = ProcessRef.of("me", os.getpid())
    found = me.find()
    assert found is not None
    assert found.pid == os.getpid()


def test_a_pid_that_now_belongs_to_another_process_is_not_found() -> None:
    assert replace(ProcessRef.of("me", os.getpid()), started=1.0).find() is None


def test_a_zombie_counts_as_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ref = ProcessRef.of("child", child.pid)
    assert ref.find() is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet reaped
    assert ref.find() is None
    child.communicate()


def test_what_runs_is_recorded_process_by_process_until_the_end(state: State) -> None:
    assert state.running() is None
    state.begin("http://127.0.0.1:1")
    state.add([ProcessRef("scheduler", 1, 2.0)])
    state.add([ProcessRef("triggerer", 3, 4.0)])
    running = state.running()
    assert running is not None
    assert running.owner == ProcessRef.of("demo", os.getpid())
    assert [ref.name for ref in running.processes] == ["scheduler", "triggerer"]
    state.end()
    assert state.running() is None


def test_a_record_cut_short_counts_as_none(state: State) -> None:
    state.begin("http://127.0.0.1:1")
    file = state.folder / "running.json"
    file.write_text(file.read_text()[:20])
    assert state.running() is None


def test_choices_outlive_a_run(state: State) -> None:
    state.choose("picture_port", 4711)
    state.choose("airflow_port", 4712)
    assert State(state.folder).choice("picture_port") == 4711
    assert state.choice("other") is None


def test_the_lock_is_held_by_one_and_freed_with_its_holder(state: State) -> None:
    lock = state.lock()
    assert lock is not None
    assert state.lock() is None
    os.close(lock)
    again = state.lock()
    assert again is not None
    os.close(again)


def test_a_secret_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_whole(tmp_path / "secret", "x", mode=0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
