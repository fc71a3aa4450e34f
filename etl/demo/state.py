"""What a demo leaves on disk about itself: which processes run, and choices that must outlive them.

``running.json`` names the processes of a demo while it runs; ``choices.json`` keeps ports (the address of the picture
server is part of every url, so of every shard); ``lock`` is held by whoever runs a demo in the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from etl.errors import ConfigurationError

_CLOCK = 2.0  # seconds by which two readings of one process's start time may differ (the clock was set)


@dataclass(frozen=True)
class ProcessRef:
    """A process by name, pid and start time (seconds, UTC): a pid alone may by now be somebody else's."""

    name: str
    pid: int
    started: float

    @classmethod
    def of(cls, name: str, pid: int) -> ProcessRef:
        """The process that has this pid now; raises psutil.NoSuchProcess."""
        return cls(name, pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The living process, or None when it has ended (a zombie counts as ended)."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class Running:
    """A demo that runs, or did when this was written.

    Attributes:
        owner: The command that started everything.
        address: Where Airflow answers.
        processes: What the owner started.
    """

    owner: ProcessRef
    address: str
    processes: tuple[ProcessRef, ...] = ()


class State:
    """The files of a demo folder.

    Args:
        folder: Usually ``.demo`` in the clone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._running, self._choices = self.folder / "running.json", self.folder / "choices.json"

    def running(self) -> Running | None:
        """What was started and not yet stopped cleanly; None when there is nothing, or the file is unreadable."""
        content = _read(self._running)
        try:
            processes = tuple(ProcessRef(**each) for each in content["processes"])
            return Running(ProcessRef(**content["owner"]), str(content["address"]), processes)
        except (KeyError, TypeError):
            return None

    def begin(self, address: str) -> None:
        """Record that this process runs a demo now."""
        self._write(Running(ProcessRef.of("demo", os.getpid()), address))

    def add(self, processes: Iterable[ProcessRef]) -> None:
        """Record further processes of the running demo."""
        found = self.running()
        if found is None:
            raise ConfigurationError(f"{self._running} vanished while the demo ran", remedy="leave .demo to the demo")
        self._write(replace(found, processes=(*found.processes, *processes)))

    def end(self) -> None:
        """Record that nothing runs any more."""
        self._running.unlink(missing_ok=True)

    def choice(self, name: str) -> int | None:
        """A number kept from an earlier start, such as a port."""
        value = _read(self._choices).get(name)
        return value if isinstance(value, int) else None

    def choose(self, name: str, value: int) -> None:
        """Keep a number for later starts."""
        write_whole(self._choices, json.dumps({**_read(self._choices), name: value}, indent=1))

    def lock(self) -> int | None:
        """Take the folder's lock; returns its open descriptor, or None while another process holds it.

        The kernel frees it when the last process that has the descriptor ends, however it ends.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _write(self, running: Running) -> None:
        write_whole(self._running, json.dumps(asdict(running), indent=1))


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that readers see the old or the new content, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    temporary.replace(path)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):  # a file cut short by a power failure tells nothing
        return {}
    return content if isinstance(content, dict) else {}
