"""Starting the demo's processes, and stopping them in an order that leaves nothing behind.

A scheduler that is told to stop waits for its running tasks, and a stage that nobody tells to stop outlives it: so the
stages are told too, they flush and end as retryable, and the scheduler ends by itself.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from etl.demo.state import ProcessRef
from etl.errors import GroundlakeError

# In the environment of all that a demo starts, with the demo's folder as value: finds what was orphaned.
MARKER = "LAKE_DEMO_FOLDER"
SCHEDULER, API_SERVER = "scheduler", "api-server"
_POLL = 0.25


class ChildDiedError(GroundlakeError):
    """A process of the demo ended although nobody stopped it; carries the end of its log."""


@dataclass(frozen=True)
class Child:
    """A process that this one started, in a session of its own, with its output in a file."""

    ref: ProcessRef
    popen: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ChildDiedError when it has ended."""
        code = self.popen.poll()
        if code is not None:
            raise ChildDiedError(
                f"{self.ref.name} ended with {code}; its last lines:\n{tail(self.log)}", remedy=f"see {self.log}"
            )


def spawn(name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, cwd: Path) -> Child:
    """Start a process that a Ctrl-C in the terminal does not reach: its starter stops it in order."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        popen = subprocess.Popen(  # noqa: S603 - commands of ours only
            command,
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(ProcessRef.of(name, popen.pid), popen, log)


def tail(log: Path, lines: int = 30) -> str:
    """The last lines of a log file."""
    with suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""


def is_stage_command(command: Sequence[str]) -> bool:
    """Whether a command line is one of ours: ``groundlake …`` or ``python -m etl.cli…``."""
    head = command[:4]
    return any(Path(part).name == "groundlake" or part.startswith("etl.cli") for part in head)


def stop_all(refs: Iterable[ProcessRef], folder: Path, *, grace: float = 40.0) -> list[str]:
    """Stop these processes and whatever they started; what does not end in time is killed.

    Args:
        refs: What was started, by name; those that have ended are skipped.
        folder: The demo's folder, by which orphans are recognised.
        grace: Seconds each group of processes may take to end.

    Returns:
        The names of those that were still alive; ``(killed)`` follows that of one that did not end by itself.
    """
    found = {ref.name: process for ref in refs if (process := ref.find())}
    family = _family(found.values(), folder)
    server = [found[API_SERVER]] if API_SERVER in found else []
    others = [process for name, process in found.items() if name not in (SCHEDULER, API_SERVER)]
    if SCHEDULER in found:
        _signal([found[SCHEDULER]], signal.SIGTERM)
    _signal(others, signal.SIGTERM)
    if SCHEDULER in found:
        _end_scheduler(found[SCHEDULER], grace)
    psutil.wait_procs(others, timeout=grace)
    _signal(server, signal.SIGTERM)  # last: tasks that end report to it
    psutil.wait_procs(server, timeout=grace)
    killed = _sweep({*family, *_family(found.values(), folder)}, grace)
    return [f"{name} (killed)" if process in killed else name for name, process in found.items()]


def _end_scheduler(scheduler: psutil.Process, grace: float) -> None:
    """Wait until a scheduler that was told to stop has ended, and tell the stages its tasks run."""
    told: set[psutil.Process] = set()
    begin = time.monotonic()
    with suppress(psutil.TimeoutExpired):
        scheduler.wait(timeout=1.0)  # it must know that it stops before its tasks end, else it starts others
    while _alive(scheduler) and time.monotonic() - begin < grace:
        stages = {process for process in _descendants(scheduler) if _is_topmost_stage(process)}
        _signal(stages - told, signal.SIGTERM)
        told |= stages
        with suppress(psutil.TimeoutExpired):
            scheduler.wait(timeout=_POLL)


def _sweep(family: set[psutil.Process], grace: float) -> set[psutil.Process]:
    """End what is left: first by request, then by force; returns those that it took force."""
    left = [process for process in family if _alive(process)]
    _signal(left, signal.SIGTERM)
    _, left = psutil.wait_procs(left, timeout=min(grace, 5.0))
    left = [process for process in left if _alive(process)]
    _signal(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=5.0)
    return set(left)


def _family(processes: Iterable[psutil.Process], folder: Path) -> set[psutil.Process]:
    """The processes, their descendants, and every other process that carries the folder's marker."""
    family = {each for process in processes for each in (process, *_descendants(process))}
    myself = psutil.Process()
    mine = {myself, *myself.parents()}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process not in mine and process.environ().get(MARKER) == str(folder):
                family.add(process)
    return family


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [each for each in process.children(recursive=True) if _alive(each)]
    return []


def _is_topmost_stage(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        parent = process.parent()
        return is_stage_command(process.cmdline()) and not (parent and is_stage_command(parent.cmdline()))
    return False


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Let no Ctrl-C, SIGTERM or SIGHUP interrupt what is in this block; stopping is bounded in time anyway."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(pipe: int, lock: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start the watchdog: it stops the demo of ``folder`` when the other end of ``pipe`` closes without a clean end."""
    return subprocess.Popen(  # noqa: S603 - a command of ours
        [sys.executable, "-m", "etl.demo.watchdog", str(folder)],
        stdin=pipe,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[lock],
        start_new_session=True,
    )
