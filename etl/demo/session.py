"""One demo at a time in a folder: taking over what a killed one left, and stopping all that was started, always."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.demo.processes import signals_ignored, stop_all, watch
from etl.demo.report import Report
from etl.demo.state import ProcessRef, State
from etl.errors import ConfigurationError, GroundlakeError, RetryableError

NEEDED_BYTES = 300_000_000
STOP_SECONDS = 150.0


@contextmanager
def session(state: State, address: str, report: Report) -> Iterator[None]:
    """Hold the folder; on leaving, by whatever way, every process recorded in ``state`` is stopped.

    Args:
        state: The folder; processes are added to it as they start.
        address: Where Airflow will answer, for those who ask what runs.
        report: Told of what a killed demo left and of the stop.

    Raises:
        ConfigurationError: A demo runs here already.
    """
    lock = take_lock(state)
    try:
        clean_up(state, report)
        state.begin(address)
        read, write = os.pipe()
        watchdog = watch(read, lock, state.folder)
        os.close(read)
        try:
            yield
        finally:
            with signals_ignored():
                _stop(state, report)
                os.close(write)
                watchdog.wait()
    finally:
        os.close(lock)


def _stop(state: State, report: Report) -> None:
    report.line("Stopping Airflow and all it runs ...", "bold")
    begin = time.monotonic()
    running = state.running()
    stopped = stop_all(running.processes if running else (), state.folder)
    state.end()
    report.line(f"  stopped {', '.join(stopped) or 'nothing'} in {time.monotonic() - begin:.0f} s", "dim")


def take_lock(state: State, wait: float = STOP_SECONDS) -> int:
    """The folder's lock; waits while the remains of an ended demo are being stopped.

    Raises:
        ConfigurationError: A demo runs in this folder.
    """
    begin = time.monotonic()
    while (lock := state.lock()) is None:
        running = state.running()
        if running is not None and running.owner.find() is not None:
            raise ConfigurationError(
                f"a demo already runs here: process {running.owner.pid}, Airflow at {running.address}",
                remedy="use that one, or stop it with 'make stop' (groundlake demo stop)",
            )
        if time.monotonic() - begin > wait:
            raise ConfigurationError(
                f"another process holds {state.folder / 'lock'}", remedy="wait until its stop is over, then try again"
            )
        time.sleep(0.25)
    return lock


def clean_up(state: State, report: Report) -> list[str]:
    """Stop what a killed demo left running and forget it; returns the names of what was still alive."""
    running = state.running()
    stopped = stop_all(running.processes if running else (), state.folder)
    if running is not None:
        left = f"stopped what it left running ({', '.join(stopped)})" if stopped else "nothing of it runs any more"
        report.line(f"Notice: an earlier demo (process {running.owner.pid}) was killed; {left}.", "yellow")
    state.end()
    return stopped


def stop_other(state: State, report: Report) -> None:
    """Stop the demo of this folder from another terminal, or what is left of a killed one.

    Raises:
        GroundlakeError: Its owner does not end.
    """
    running = state.running() if state.folder.exists() else None
    if running is None:
        report.line("Nothing of the demo runs.")
        return
    owner = running.owner.find()
    if owner is not None:
        report.line(f"Stopping the demo (process {owner.pid}, Airflow at {running.address}) ...")
        owner.terminate()
        if not _ended(running.owner):
            raise GroundlakeError(
                f"the demo (process {owner.pid}) does not end", remedy=f"kill -9 {owner.pid}, then 'make stop' again"
            )
    lock = take_lock(state)
    try:
        clean_up(state, report)
    finally:
        os.close(lock)
    report.line("Stopped.")


def _ended(owner: ProcessRef) -> bool:
    """Wait for a process; returns whether it has ended."""
    begin = time.monotonic()
    while owner.find() is not None and time.monotonic() - begin < STOP_SECONDS:
        time.sleep(0.25)
    return owner.find() is None


def check_disk(folder: Path) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        RetryableError: Less is free than a demo writes.
    """
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise RetryableError(
            f"{free / 1e6:.0f} MB are free on the disk of {folder}, the demo needs {NEEDED_BYTES / 1e6:.0f} MB",
            remedy="free some space ('make clean' removes an earlier demo), then run it again: what is written stays",
        )
