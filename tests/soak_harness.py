"""Starts the processes of a kill test, kills and restarts them round by round, and judges what is left."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from soak_cleanup import clean_up
from soak_pods import Job, live
from soak_verdict import count_rows, wrong_in_the_end, wrong_to_a_reader
from soak_world import World

from etl.lake import Lake, Snapshot
from etl.lake.commit import COMMITTED, FENCED

_FORK_SERVER = multiprocessing.get_context("forkserver")
_FORK_SERVER.set_forkserver_preload(["soak_pods"])


def age_on_disk(lake: Lake, key: str) -> None:
    """Make an order, and the slices it has finished, look as if nobody had come back to it for weeks."""
    long_ago = time.time() - 30 * 24 * 3600
    for found in [f"units/{key}.json", *(one.key for one in lake.store.list(f"units/{key}/"))]:
        with contextlib.suppress(FileNotFoundError):  # it was not opened yet, or is swept already
            os.utime(Path(lake.uri) / found, (long_ago, long_ago))


class SoakError(AssertionError):
    """The lake broke its word."""


@dataclass
class Report:
    """What a run did, and what it found."""

    rounds: int = 0
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    rows: Mapping[str, int] = field(default_factory=dict)
    wrong: Sequence[str] = ()

    def __str__(self) -> str:
        done = f"{self.rounds} rounds in {self.seconds:.0f} s; kills {dict(self.kills)}; orders {dict(self.orders)}"
        return f"{done}; events {dict(sorted(self.events.items()))}; rows {dict(self.rows)}"


class Soak:
    """One kill test over one lake.

    Args:
        lake: Empty; it is filled with the world.
        folder: For files of the processes.
        world: What there is to do.
        seed: Of the kills; what the processes do beside each other is theirs.
        roles: Processes per role; see ``soak_pods.ROLES``.
        window: Open orders that are worked on at once.
        environment: Variables of the processes.
        faults: Whether the store is made to fail.
        age: Makes the files of an order look abandoned, where the store is no disk.
    """

    def __init__(
        self,
        lake: Lake,
        folder: Path,
        world: World,
        *,
        roles: Mapping[str, int],
        seed: int = 0,
        window: int = 8,
        environment: Mapping[str, str] | None = None,
        faults: bool = False,
        age: Callable[[Lake, str], None] | None = None,
    ) -> None:
        self.lake, self.folder, self.world = lake, folder, world
        self.random, self.report, self.low = random.Random(seed), Report(), 0
        self.roles, self.aged, self._age = set(roles), set[int](), age or age_on_disk
        self._lives: Counter[str] = Counter()
        settings = lake.settings.model_dump(include={"slice_size", "commit_deadline", "purge_hours", "sweep_days"})
        self._job = Job(
            "", "", lake.uri, folder, world, window, environment=environment or {}, settings=settings, faults=faults
        )
        for name in ("events", "failures", "scratch"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.processes = {f"{role}-{n}": self._start(role, n) for role, many in roles.items() for n in range(many)}

    def _start(self, role: str, number: int) -> BaseProcess:
        seat = f"{role}-{number}"
        self._lives[seat] += 1
        job = replace(self._job, role=role, name=f"{seat}-{self._lives[seat]}", low=self.low)
        process = _FORK_SERVER.Process(target=live, args=(job,), name=seat, daemon=True)
        process.start()
        return process

    def run(self, rounds: int, *, kill: float = 0.3, pause: float = 0.5, end: float = 600.0) -> Report:
        """Kill and restart for so many rounds, let the rest finish, and judge.

        Args:
            rounds: How often a random part of the processes is killed.
            kill: Chance of each process per round.
            pause: Seconds of a round, over which its kills are spread.
            end: Seconds for all that is open to be finished.

        Raises:
            SoakError: A process failed, or the lake holds other rows than a run without faults leaves.
        """
        start = time.monotonic()
        try:
            self._await_all(time.monotonic() + end)
            for _ in range(rounds):
                self._round(kill, pause)
            self._finish(time.monotonic() + end)
        finally:
            for process in self.processes.values():
                process.kill()
                process.join()
        self.report.events = Counter(one["event"] for one in self._told())
        self._judge()
        self.report.seconds = time.monotonic() - start
        if self.report.wrong:
            raise SoakError("\n".join([*self.report.wrong, str(self.report)]))
        return self.report

    def _await_all(self, deadline: float) -> None:
        """The fork server imports for a second or two: a kill should meet work."""
        while sum(bool(file.stat().st_size) for file in (self.folder / "events").iterdir()) < len(self.processes):
            self._no_failures()
            if time.monotonic() > deadline:
                raise SoakError("the processes do not start")
            time.sleep(0.05)

    def _round(self, kill: float, pause: float) -> None:
        victims = [seat for seat in self.processes if self.random.random() < kill and not seat.startswith("read-")]
        if not any(seat.startswith("write-") for seat in victims):  # a round without is none
            victims.append(self.random.choice([seat for seat in self.processes if seat.startswith("write-")]))
        self.random.shuffle(victims)
        for seat in victims:
            time.sleep(self.random.uniform(0, 2 * pause / len(victims)))
            self._kill(seat)
        self.report.rounds += 1
        self._no_failures()
        closed = self.lake.table("outcomes")
        while closed.transaction_version(self.world.key(self.low)) is not None:
            self.low += 1
        if self.roles & {"sweep", "maintain"}:
            number = self.random.randrange(self.low, self.low + self._job.window)
            self.aged.add(number)
            self._age(self.lake, self.world.key(number))

    def _kill(self, seat: str) -> None:
        process = self.processes[seat]
        process.kill()
        process.join()
        role, _, number = seat.rpartition("-")
        self.report.kills[role] += 1
        self.processes[seat] = self._start(role, int(number))

    def _finish(self, deadline: float) -> None:
        """No new order; what is open is worked to its end."""
        (self.folder / "limit.new").write_text(str(max(self._opened(), default=-1) + 1))
        (self.folder / "limit.new").replace(self.folder / "limit")
        for process in self.processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                raise SoakError(f"{process.name} has not come to its end; {self.report}")
        self._no_failures()

    def _opened(self) -> list[int]:
        """The numbers of all orders that were ever opened."""
        keys = {found.key for found in self.lake.store.list("units/")}
        return [n for n in range(self.low + 1000) if f"units/{self.world.key(n)}.json" in keys]

    def _no_failures(self) -> None:
        if failed := sorted((self.folder / "failures").iterdir()):
            raise SoakError("\n".join(f"{file.name}: {file.read_text()}" for file in failed[:3]))
        dead = [p.name for p in self.processes.values() if p.exitcode]
        if dead:
            raise SoakError(f"{dead} ended without a word")

    def _told(self, event: str | None = None) -> Iterator[Mapping[str, Any]]:
        """What the processes said; the last line of one that was killed may be cut."""
        lines = (line for file in (self.folder / "events").iterdir() for line in file.read_text().splitlines())
        told = (json.loads(line) for line in lines if line.endswith("}"))
        return (one for one in told if event in (None, one["event"]))

    def _judge(self) -> None:
        closed = self.lake.table("outcomes")
        states: dict[int | None, list[int]] = {}
        opened = set(self._opened())
        for number in sorted(opened | self.aged):
            state = closed.transaction_version(self.world.key(number))
            if state is not None or number in opened:  # else it was made old before anyone opened it
                states.setdefault(state, []).append(number)
        committed, fenced = states.pop(COMMITTED, []), states.pop(FENCED, [])
        wrong = [f"orders {numbers[:5]} are in state {state}" for state, numbers in states.items()]
        if alive := sorted(set(fenced) - self.aged):
            wrong.append(f"orders {alive[:5]} were declared dead, although they were worked on")
        self.report.orders = Counter(committed=len(committed), fenced=len(fenced))
        if self.roles & {"take_down", "maintain"}:
            wrong += clean_up(self.lake, self.world, {event["image_id"] for event in self._told("asked")})
        self._compare(wrong, committed, fenced)
        self.report.wrong = wrong

    def _compare(self, wrong: list[str], committed: Sequence[int], fenced: Sequence[int]) -> None:
        with Snapshot.take(self.lake).connect() as connection:
            wrong += wrong_to_a_reader(connection, self.world)
            wrong += wrong_in_the_end(connection, self.world, committed, fenced)
            self.report.rows = count_rows(connection)
