"""The processes of the kill tests: each may be killed at any instant, and says what it did in a file of its own.

They are started by a fork server that has imported this module and used nothing of it: delta-rs must not be used
before a fork, and importing it takes a second.
"""

from __future__ import annotations

import fcntl
import functools
import importlib
import itertools
import json
import os
import random
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from soak_verdict import wrong_to_a_reader
from soak_world import TABLES, World

from etl.errors import RetryableError
from etl.lake import Lake, Snapshot, maintenance, takedown
from etl.lake.commit import FencedError
from etl.lake.orders import commit_order, finish_slice, read_slice
from etl.settings import Settings


@dataclass(frozen=True)
class Job:
    """What a process is told.

    Attributes:
        role: Its function in ``ROLES``.
        name: Unique among all lives of all processes; seeds its choices.
        uri: The lake.
        folder: Files by which processes and harness talk.
        world: What there is to do.
        window: So many open orders are worked on at once: fewer than writers makes twins.
        low: All orders below this number are closed.
        environment: Variables to set.
        settings: Settings that differ from the default.
        faults: Whether the store is made to fail, so that a query may.
    """

    role: str
    name: str
    uri: str
    folder: Path
    world: World
    window: int = 8
    low: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    faults: bool = False


class Pod:
    """One process at work."""

    def __init__(self, job: Job) -> None:
        self.job, self.world, self.random = job, job.world, random.Random(job.name)
        self._events = (job.folder / "events" / f"{job.name}.jsonl").open("a", buffering=1)
        self.lake = Lake.open(job.uri, Settings(scratch=job.folder / "scratch", **job.settings))

    def tell(self, event: str, **detail: object) -> None:
        """Note something; a line is written at once and whole."""
        self._events.write(json.dumps({"event": event, "at": round(time.time(), 3), **detail}) + "\n")

    @property
    def limit(self) -> int | None:
        """The first order that may no longer be opened, once the harness wants an end."""
        file = self.job.folder / "limit"
        return int(file.read_text()) if file.exists() else None

    @contextmanager
    def files(self, *, alone: bool = False) -> Iterator[None]:
        """Use data files while nobody deletes them before their time, or delete them while nobody uses them.

        In a lake at work, files that were replaced stay for weeks. Who waits to be alone holds the gate, so that a
        stream of readers does not starve it; the kernel frees the locks of who is killed.
        """
        with (self.job.folder / "gate.lock").open("w") as gate, (self.job.folder / "files.lock").open("w") as lock:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            if not alone:
                fcntl.flock(gate, fcntl.LOCK_UN)
            yield

    def taken_down(self) -> frozenset[str]:
        """The pictures that have a tombstone."""
        with self.files():
            found = self.lake.table("takedowns").to_pyarrow_table(columns=["kind", "value"])
        return frozenset(row["value"] for row in found.to_pylist() if row["kind"] == "image_id")


def write(pod: Pod) -> None:
    """A stage's pod: works open orders, and opens the next ones, until there is an end."""
    low = pod.job.low
    while True:
        closed = pod.lake.table("outcomes")
        limit = pod.limit
        while closed.transaction_version(pod.world.key(low)) is not None:
            low += 1
        if limit is not None and low >= limit:
            return
        last = low + pod.job.window if limit is None else min(limit, low + pod.job.window)
        numbers = [n for n in range(low, last) if closed.transaction_version(pod.world.key(n)) is None]
        try:
            _work(pod, pod.random.choice(numbers))
        except FencedError:
            pod.tell("fenced")


def _work(pod: Pod, number: int) -> None:
    order = pod.world.open(pod.lake, number)
    token = uuid.uuid4().hex
    for slice_, _ in order.slices():
        if read_slice(pod.lake, order.key, slice_) is not None:
            pod.tell("resumed")
            continue
        tables = pod.world.tables(number, slice_, token, pod.taken_down())
        record = finish_slice(pod.lake, order.key, slice_, tables, {token: 1})
        pod.tell("won" if token in record.counts else "lost")
    commit_order(pod.lake, order, last=TABLES[-1])
    pod.tell("worked", number=number)


def read(pod: Pod) -> None:
    """Look at everything: whatever runs beside it, what a reader sees is whole."""
    with pod.files():
        try:
            with Snapshot.take(pod.lake).connect() as connection:
                wrong = wrong_to_a_reader(connection, pod.world)
        except (duckdb.IOException, duckdb.HTTPException):
            if not pod.job.faults:
                raise
            return pod.tell("refused")
    if wrong:
        raise AssertionError("\n".join(wrong))
    return pod.tell("read")


def compact(pod: Pod) -> None:
    """Compact a table, and write a checkpoint of one."""
    name = pod.random.choice([*TABLES, "takedowns"])
    with pod.files():
        pod.tell("compacted", files=maintenance.compact(pod.lake, name).files_before)
    maintenance.checkpoint(pod.lake, pod.random.choice(TABLES))


def forget_history() -> None:
    """Let vacuum, in this process, delete what was replaced a moment ago, not weeks ago."""
    module = importlib.import_module("etl.lake.maintenance.vacuum")  # the package has a function of that name
    listed = functools.partial(_listed, module._tombstoned)
    module._tombstoned = module._tombstoned if isinstance(module._tombstoned, functools.partial) else listed


def _listed(tombstoned: Callable[..., list[str]], lake: Lake, name: str, table: object, hours: int) -> list[str]:
    return tombstoned(lake, name, table, 0)


def vacuum(pod: Pod) -> None:
    """Delete every file that a rewrite has replaced, while writers write: it may never take a part of theirs."""
    forget_history()
    with pod.files(alone=True):
        pod.tell("vacuumed", files=len(maintenance.vacuum(pod.lake, pod.random.choice(TABLES)).paths))


def sweep(pod: Pod) -> None:
    """Fence and remove dead orders: those whose files the harness made old."""
    with pod.files():
        taken = maintenance.sweep(pod.lake).taken
    pod.tell("swept", **{kind: one.count for kind, one in taken.items()})


def take_down(pod: Pod) -> None:
    """A takedown, asked for in one of the three ways; a pass of purge, and now and then one that ends them."""
    picture = pod.random.choice([p for pictures in pod.world.content for p in pictures if p.doomed])
    kind, value = pod.random.choice([("image_id", picture.image_id), ("url", picture.url), ("sha256", picture.sha256)])
    with pod.files():
        pod.tell("asked", image_id=picture.image_id)  # before the tombstone: whoever is killed after it has asked
        takedown.add(pod.lake, takedown.Request.of([takedown.target(kind, value)], f"{kind} is not wanted"))
        takedown.purge(pod.lake)
        pod.tell("cut")
    if pod.random.random() < 0.3:
        hasty = Lake(pod.lake.store, pod.lake.settings.model_copy(update={"purge_hours": 0.0}))
        with pod.files(alone=True):
            done = takedown.purge(hasty)
        pod.tell("purged", purged=sum(one.state == takedown.PURGED for one in done))


def _again(*steps: Callable[[Pod], None], pause: float) -> Callable[[Pod], None]:
    """A process that takes these steps in turn until there is an end, with up to ``pause`` seconds after each."""

    def loop(pod: Pod) -> None:
        for step in itertools.cycle(steps):
            if pod.limit is not None:
                return
            step(pod)
            time.sleep(pod.random.uniform(0, pause))

    return loop


ROLES: dict[str, Callable[[Pod], None]] = {
    "write": write,
    "read": _again(read, pause=0.5),
    "compact": _again(compact, pause=0.5),
    "vacuum": _again(vacuum, pause=2),
    "sweep": _again(sweep, pause=1),
    "take_down": _again(take_down, pause=3),
    "maintain": _again(take_down, compact, sweep, vacuum, pause=0.1),
}


def live(job: Job) -> None:
    """A process of its role until the end; a failure that may be tried again is, as Airflow would.

    Anything else is written down for the harness and ends the process.
    """
    os.environ.update(job.environment)
    try:
        while True:
            try:
                pod = Pod(job)
                pod.tell("began")
                return ROLES[job.role](pod)
            except RetryableError as error:
                pod.tell("retried", error=f"{type(error).__name__}: {error}"[:300])
    except BaseException:
        (job.folder / "failures" / f"{job.name}.txt").write_text(traceback.format_exc())
        raise
