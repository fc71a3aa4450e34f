"""Stopping: stages are told to flush while the scheduler waits for them, the API server goes last, nothing is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from etl.demo.processes import (
    MARKER,
    Child,
    ChildDiedError,
    is_stage_command,
    signals_ignored,
    spawn,
    stop_all,
    tail,
)

# A stage: on SIGTERM it flushes for a moment and ends as retryable.
STAGE = """
import pathlib, signal, sys, time
def stop(*_):
    time.sleep(0.3); say("stage flushed"); sys.exit(75)
def say(text):
    with open(sys.argv[2], "a") as log: log.write(text + "\\n")
signal.signal(signal.SIGTERM, stop); say("stage began"); time.sleep(60)
"""

# A scheduler: on SIGTERM it waits for its stage, which runs in a session of its own.
SCHEDULER = """
import signal, subprocess, sys
def say(text):
    with open(sys.argv[2], "a") as log: log.write(text + "\\n")
signal.signal(signal.SIGTERM, lambda *_: say("scheduler told"))
stage = subprocess.Popen([sys.executable, "-c", sys.argv[3], "etl.cli.fake", sys.argv[2]], start_new_session=True)
stage.wait(); say("scheduler ended")
"""

OTHER = """
import signal, sys, time
def stop(*_):
    with open(sys.argv[2], "a") as log: log.write(sys.argv[1] + " ended\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
with open(sys.argv[2], "a") as log: log.write(sys.argv[1] + " began\\n")
time.sleep(60)
"""

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


class Stand:
    """Starts dummy processes as the demo does, and waits for what they write."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "events"
        self.children: list[Child] = []

    def start(self, name: str, code: str, *arguments: str) -> Child:
        command = [sys.executable, "-c", code, *arguments]
        environment = {**os.environ, MARKER: str(self.folder)}
        self.children.append(spawn(name, command, environment, self.folder / f"{name}.log", self.folder))
        return self.children[-1]

    def events(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for(self, event: str) -> None:
        until(lambda: event in self.events())

    def stop(self, grace: float = 10.0) -> list[str]:
        return stop_all([child.ref for child in self.children], self.folder, grace=grace)

    def survivors(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _marker(process) == str(self.folder)]


def until(condition: object, seconds: float = 10.0) -> None:
    begin = time.monotonic()
    while not condition():  # type: ignore[operator]
        assert time.monotonic() - begin < seconds, "nothing happened"
        time.sleep(0.05)


def _marker(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARKER) if process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OSError):
        return None


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path)
    yield stand
    for process in stand.survivors():
        process.kill()


def test_a_running_stage_is_told_after_the_scheduler_and_flushes_before_it_ends(stand: Stand) -> None:
    stand.start("api-server", OTHER, "api-server", str(stand.log))
    stand.start("triggerer", OTHER, "triggerer", str(stand.log))
    stand.start("scheduler", SCHEDULER, "scheduler", str(stand.log), STAGE)
    for event in ("stage began", "api-server began", "triggerer began"):
        stand.wait_for(event)
    assert stand.stop() == ["api-server", "triggerer", "scheduler"]
    ends = [event for event in stand.events() if not event.endswith("began") and event != "triggerer ended"]
    assert ends == ["scheduler told", "stage flushed", "scheduler ended", "api-server ended"]
    assert stand.events().index("triggerer ended") < stand.events().index("api-server ended")
    assert stand.survivors() == []


def test_a_stage_whose_scheduler_is_already_dead_is_found_and_stopped(stand: Stand) -> None:
    scheduler = stand.start("scheduler", SCHEDULER, "scheduler", str(stand.log), STAGE)
    stand.wait_for("stage began")
    scheduler.popen.kill()
    scheduler.popen.wait()
    assert len(stand.survivors()) == 1
    assert stand.stop() == []
    assert stand.events()[-1] == "stage flushed"
    assert stand.survivors() == []


def test_what_does_not_listen_is_killed_after_the_grace_period(stand: Stand) -> None:
    deaf = stand.start("triggerer", DEAF)
    until(lambda: "deaf" in tail(deaf.log))
    assert stand.stop(grace=0.5) == ["triggerer (killed)"]
    assert stand.survivors() == []


def test_processes_of_another_demo_are_left_alone(stand: Stand, tmp_path: Path) -> None:
    stand.start("triggerer", OTHER, "triggerer", str(stand.log))
    stand.wait_for("triggerer began")
    stop_all([], tmp_path / "another")
    assert len(stand.survivors()) == 1


def test_a_process_that_died_is_reported_with_the_end_of_its_log(stand: Stand) -> None:
    child = stand.start("scheduler", "print('no space left'); raise SystemExit(3)")
    child.popen.wait()
    with pytest.raises(ChildDiedError, match=r"scheduler ended with 3(.|\n)*no space left"):
        child.check()


@pytest.mark.parametrize(
    ("command", "ours"),
    [
        (["/x/python", "-m", "etl.cli.main", "stage", "run", "tag"], True),
        (["/x/python", "/x/bin/groundlake", "ingest", "shard"], True),
        (["/x/python", "-m", "airflow", "scheduler"], False),
        (["/x/python", "-m", "etl.orchestration.reaper", "1", "2"], False),
        ([], False),
    ],
)
def test_stage_commands_are_told_from_the_rest(command: list[str], ours: bool) -> None:
    assert is_stage_command(command) is ours


def test_no_signal_interrupts_a_stop() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_ignored():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
