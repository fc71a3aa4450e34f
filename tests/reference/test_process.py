"""The worker process: asked many times, gone with whoever started it, and what its death means."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import stand_in_upstream

from etl.errors import EXIT_RETRY, ConfigurationError
from etl.reference import process
from etl.reference.environment import VARIABLE
from etl.reference.errors import ReferenceLacksError, UpstreamError, WorkerLostError
from etl.reference.process import Worker

Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a stand-in that does something at every question, and has it open SAM."""
    started: list[Worker] = []

    def _start(does: str = "answer") -> Worker:
        stand_in_upstream.install(monkeypatch, tmp_path, does)
        started.append(Worker())
        started[-1].pid = started[-1].open("sam", tmp_path)["pid"]  # type: ignore[attr-defined]
        return started[-1]

    yield _start
    for worker in started:
        worker.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_it_is_started_once_and_asked_many_times(start: Start):
    worker = start()
    for number in range(3):
        answer = worker.ask({"given": np.full((3, 500, 500), number)}, word="ö")
        assert (answer["twice"] == 2 * number).all()
        assert str(answer["text"]) == "ö"
        assert answer["answered"] == number + 1


def test_what_upstream_raises_at_one_question_is_no_end_of_the_worker(start: Start):
    worker = start("raise")
    with pytest.raises(UpstreamError, match="the reference engine of sam: ValueError: odd"):
        worker.ask({})
    assert worker.ask({})["answered"] == 2


def test_a_worker_that_dies_is_worth_a_retry_and_its_last_lines_are_quoted(start: Start):
    worker = start("die")
    with pytest.raises(WorkerLostError, match=r"ended with code 7:\nfirst\nno memory left") as raised:
        worker.ask({})
    assert raised.value.exit_code == EXIT_RETRY
    with pytest.raises(WorkerLostError):
        worker.ask({})


def test_a_worker_that_hangs_is_killed(start: Start):
    worker = start("hang")
    with pytest.raises(WorkerLostError, match=r"did not answer within 0.3 s"):
        worker.ask({}, timeout=0.3)
    assert gone(worker.pid)


def test_a_worker_that_reads_nothing_is_killed_too(start: Start):
    worker = start()
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(WorkerLostError, match="did not answer"):
        worker.ask({"picture": np.zeros((2000, 2000, 3), np.uint8)}, timeout=0.3)
    assert gone(worker.pid)


def test_closing_twice_is_closing_once(start: Start):
    worker = start()
    worker.close()
    worker.close()
    assert gone(worker.pid)
    with pytest.raises(WorkerLostError):
        worker.ask({})


def test_a_worker_that_nobody_holds_any_more_ends(start: Start, tmp_path: Path):
    start().close()
    worker = Worker()
    pid = worker.open("sam", tmp_path)["pid"]
    del worker
    gc.collect()
    assert gone(pid)


def test_a_worker_ends_when_its_parent_is_killed(start: Start):
    start().close()
    code = (
        "import time; from pathlib import Path; from etl.reference import process; "
        f"process.WORKER = Path({str(process.WORKER)!r}); worker = process.Worker(); "
        "print(worker.open('sam', Path('.'))['pid'], flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


@pytest.mark.parametrize(
    ("family", "words"), [("ram", "git clone .*recognize-anything.*7cb804a"), ("sam", "cannot open .*no module")]
)
def test_what_cannot_be_opened_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, family: str, words: str
):
    stand_in_upstream.install(monkeypatch, tmp_path, "lack")
    with Worker() as worker, pytest.raises(ConfigurationError, match=words):
        worker.open(family, tmp_path)


def test_the_real_worker_in_an_interpreter_without_upstreams_packages_says_which_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv(VARIABLE, sys.executable)
    with Worker() as worker:
        for family, module in (("ram", "ram"), ("sam", "segment_anything")):
            with pytest.raises(ReferenceLacksError) as raised:
                worker.open(family, tmp_path, seed=0)
            assert raised.value.module == module
    assert worker._process.returncode == 0  # it ended by itself when its pipe was closed


def test_a_missing_environment_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    with pytest.raises(ConfigurationError, match="make reference"):
        Worker()
