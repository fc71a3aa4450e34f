"""A folder holds one demo; however it ends, nothing of it is left, and the next one says what it found."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from etl.demo.processes import MARKER, spawn
from etl.demo.report import Report
from etl.demo.session import check_disk, session, stop_other
from etl.demo.state import ProcessRef, State
from etl.errors import ConfigurationError, RetryableError

Said = Callable[[], str]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
ADDRESS = "http://127.0.0.1:4711"

# A demo in a process of its own: starts one child, says so, and waits.
OWNER = f"""
import os, sys, time
from pathlib import Path
from rich.console import Console
from etl.demo.processes import MARKER, spawn
from etl.demo.report import Report
from etl.demo.session import session
from etl.demo.state import State
from etl.cli.common import errors_end_the_process
state = State(Path(sys.argv[1]))
with errors_end_the_process(), session(state, {ADDRESS!r}, Report(Console())):
    environment = {{**os.environ, {MARKER!r}: str(state.folder)}}
    child = spawn("triggerer", {SLEEP!r}, environment, state.folder / "log", state.folder)
    state.add([child.ref])
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / ".demo")


@pytest.fixture
def owner(state: State) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state.folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "up":
            assert process.poll() is None
        yield process
        process.kill()


def child_of(state: State, *, name: str = "triggerer") -> ProcessRef:
    environment = {**os.environ, MARKER: str(state.folder)}
    return spawn(name, SLEEP, environment, state.folder / "log", state.folder).ref


def of_folder(state: State) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(MARKER) == str(state.folder) or str(state.folder) in process.cmdline()
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, RetryableError])
def test_an_error_inside_stops_everything_and_goes_on(state: State, report: Report, error: type[BaseException]) -> None:
    def run() -> None:
        with session(state, ADDRESS, report):
            state.add([child_of(state)])
            raise error("no")

    with pytest.raises(error):
        run()
    assert of_folder(state) == []
    assert state.running() is None


def test_a_second_demo_in_the_folder_is_refused_with_address_and_way_out(state: State, report: Report) -> None:
    second = session(state, "http://127.0.0.1:1", report)
    with session(state, ADDRESS, report), pytest.raises(ConfigurationError) as refused:
        second.__enter__()
    assert ADDRESS in refused.value.message
    assert "make stop" in str(refused.value.remedy)


def test_sigterm_stops_everything_and_ends_as_retryable(state: State, owner: subprocess.Popen[str]) -> None:
    owner.send_signal(signal.SIGTERM)
    assert owner.wait(timeout=20) == RetryableError.exit_code
    assert of_folder(state) == []


def test_a_killed_owner_leaves_nothing_because_the_watchdog_stops_it(
    state: State, owner: subprocess.Popen[str]
) -> None:
    owner.kill()
    owner.wait()
    begin = time.monotonic()
    while of_folder(state) and time.monotonic() - begin < 20:
        time.sleep(0.1)
    assert of_folder(state) == []
    assert state.running() is None


def test_the_record_of_a_killed_demo_is_stale_and_its_orphans_are_stopped(
    state: State, report: Report, said: Said
) -> None:
    state.folder.mkdir()
    state.begin(ADDRESS)
    orphan = child_of(state)
    state.add([orphan])
    file = state.folder / "running.json"
    file.write_text(re.sub(r'("name": "demo",\s+"pid": \d+,\s+"started": )[\d.]+', r"\g<1>1.0", file.read_text()))
    with session(state, ADDRESS, report):
        assert orphan.find() is None
    assert "was killed; stopped what it left running (triggerer)" in said()


def test_stop_from_another_terminal_ends_the_demo_and_all_it_started(
    state: State, report: Report, said: Said, owner: subprocess.Popen[str]
) -> None:
    stop_other(state, report)
    assert owner.wait(timeout=5) == RetryableError.exit_code
    assert of_folder(state) == []
    assert ADDRESS in said()


def test_stop_says_so_when_nothing_runs_and_makes_no_folder(state: State, report: Report, said: Said) -> None:
    stop_other(state, report)
    assert said() == "Nothing of the demo runs.\n"
    assert not state.folder.exists()


def test_too_little_disk_is_refused_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5 * 10**6, 5 * 10**6))
    with pytest.raises(RetryableError, match="5 MB are free"):
        check_disk(tmp_path)
