"""The worker process: asked many times, gone with whoever started it, and what its death means.

Workers of these tests are a few lines of Python that speak the frames; upstream's packages are not needed.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etl.errors import EXIT_RETRY, ConfigurationError
from etl.reference import process
from etl.reference.environment import VARIABLE
from etl.reference.errors import ReferenceLacksError, UpstreamError, WorkerLostError
from etl.reference.process import Worker

BEGIN = """
import os, sys, time
from etl.reference.worker.frames import packed, received
def reply(header, arrays={}):
    sys.stdout.buffer.write(packed(header, arrays)); sys.stdout.buffer.flush()
while True:
    asked = received(sys.stdin.buffer)
    if asked is None: sys.exit()
    if asked.header["do"] == "open": reply({"facts": {"pid": os.getpid()}}); continue
"""
Start = Callable[[str], Worker]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Starts a worker that opens anything, and does what a line says at every question."""
    monkeypatch.setenv(VARIABLE, sys.executable)
    started: list[Worker] = []

    def _start(line: str, begin: str = BEGIN) -> Worker:
        (tmp_path / "worker.py").write_text(f"{begin}    {line}\n")
        monkeypatch.setattr(process, "WORKER", tmp_path / "worker.py")
        started.append(Worker())
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


def test_it_is_started_once_and_asked_many_times(start: Start, tmp_path: Path):
    worker = start("reply({}, {'twice': asked.arrays['given'] * 2, 'text': asked.header['word']})")
    worker.open("sam", tmp_path)
    for number in range(3):
        answer = worker.ask({"given": np.full((3, 500, 500), number)}, word="ö")
        assert (answer["twice"] == 2 * number).all()
        assert str(answer["text"]) == "ö"


def test_what_upstream_raises_at_one_question_is_no_end_of_the_worker(start: Start, tmp_path: Path):
    worker = start("reply({'error': 'ValueError: odd'} if 'bad' in asked.header else {}, {})")
    worker.open("sam", tmp_path)
    with pytest.raises(UpstreamError, match="the reference engine of sam: ValueError: odd"):
        worker.ask({}, bad=True)
    assert worker.ask({}) == {}


def test_a_worker_that_dies_is_worth_a_retry_and_its_last_lines_are_quoted(start: Start, tmp_path: Path):
    worker = start("sys.stderr.write('first\\nno memory left\\n'); os._exit(7)")
    worker.open("sam", tmp_path)
    with pytest.raises(WorkerLostError, match=r"ended with code 7:\nfirst\nno memory left") as raised:
        worker.ask({})
    assert raised.value.exit_code == EXIT_RETRY
    with pytest.raises(WorkerLostError):
        worker.ask({})


def test_a_worker_that_hangs_is_killed(start: Start, tmp_path: Path):
    worker = start("time.sleep(600)")
    pid = worker.open("sam", tmp_path)["pid"]
    with pytest.raises(WorkerLostError, match=r"did not answer within 0 s"):
        worker.ask({}, timeout=0.3)
    worker.close()
    assert gone(pid)


def test_a_worker_that_reads_nothing_is_killed_too(start: Start, tmp_path: Path):
    worker = start("os.kill(os.getpid(), 19)")
    pid = worker.open("sam", tmp_path)["pid"]
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerLostError, match="did not answer"):
        worker.ask({"picture": np.zeros((2000, 2000, 3), np.uint8)}, timeout=0.3)
    assert gone(pid)


def test_closing_twice_is_closing_once(start: Start, tmp_path: Path):
    worker = start("pass")
    pid = worker.open("sam", tmp_path)["pid"]
    worker.close()
    worker.close()
    assert gone(pid)
    with pytest.raises(WorkerLostError):
        worker.ask({})


def test_a_worker_that_nobody_holds_any_more_ends(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    start("pass").close()
    worker = Worker()
    pid = worker.open("sam", tmp_path)["pid"]
    del worker
    gc.collect()
    assert gone(pid)


def test_a_worker_ends_when_its_parent_is_killed(start: Start, tmp_path: Path):
    start("pass").close()
    code = (
        "import sys, time; from pathlib import Path; from etl.reference import process; "
        f"process.WORKER = Path({str(tmp_path / 'worker.py')!r}); worker = process.Worker(); "
        f"print(worker.open('sam', Path('.'))['pid'], flush=True); time.sleep(600)"
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
    ("error", "missing", "kind", "words"),
    [
        ("ModuleNotFoundError: no ram", "ram", ReferenceLacksError, "git clone .*recognize-anything"),
        ("ModuleNotFoundError: no such", "segment_anything.modeling", ReferenceLacksError, "make reference"),
        ("ValueError: the checkpoint lacks 3 tensors", None, ConfigurationError, "cannot open .*lacks 3 tensors"),
    ],
)
def test_what_cannot_be_opened_says_what_to_do(
    start: Start, tmp_path: Path, error: str, missing: str | None, kind: type[ConfigurationError], words: str
):
    begin = BEGIN.split("    if asked.header")[0] + "    if asked is None: sys.exit()\n"
    worker = start(f"reply({{'error': {error!r}, 'missing': {missing!r}}})", begin)
    with pytest.raises(kind, match=words):
        worker.open("ram", tmp_path)


def test_a_missing_environment_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    with pytest.raises(ConfigurationError, match="make reference"):
        Worker()
