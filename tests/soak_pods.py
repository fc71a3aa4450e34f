"""The processes of the kill tests: each may be killed at any instant, and says what it did in a file of its own.

They are started by a fork server that has imported this module and used nothing of it: delta-rs must not be used
before a fork, and importing it takes a second.
"""

from __future__ import annotations

import fcntl
import importlib
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
    """A reader: whatever runs beside it, what it sees is whole."""
    while pod.limit is None:
        with pod.files():
            try:
                with Snapshot.take(pod.lake).connect() as connection:
                    wrong = wrong_to_a_reader(connection, pod.world)
            except (duckdb.IOException, duckdb.HTTPException):
                if not pod.job.faults:
                    raise
                pod.tell("refused")
                continue
        if wrong:
            raise AssertionError("\n".join(wrong))
        pod.tell("read")
        time.sleep(pod.random.uniform(0, 0.5))


def compact(pod: Pod) -> None:
    """Compaction and checkpoints, again and again."""
    while pod.limit is None:
        name = pod.random.choice([*TABLES, "takedowns"])
        with pod.files():
            pod.tell("compacted", files=maintenance.compact(pod.lake, name).files_before)
        maintenance.checkpoint(pod.lake, pod.random.choice(TABLES))
        time.sleep(pod.random.uniform(0, 0.5))


def forget_history() -> None:
    """Let vacuum, in this process, delete what was replaced a moment ago, not weeks ago."""
    module = importlib.import_module("etl.lake.maintenance.vacuum")  # the package has a function of that name
    listed = module._tombstoned
    module._tombstoned = lambda lake, name, table, hours: listed(lake, name, table, 0)


def vacuum(pod: Pod) -> None:
    """Deletes every file that a rewrite has replaced, while writers write: it may never take a part of theirs."""
    forget_history()
    while pod.limit is None:
        name = pod.random.choice(TABLES)
        with pod.files(alone=True):
            pod.tell("vacuumed", files=len(maintenance.vacuum(pod.lake, name).paths))
        time.sleep(pod.random.uniform(0, 2))


def sweep(pod: Pod) -> None:
    """Fences and removes dead orders: those whose files the harness made old."""
    while pod.limit is None:
        with pod.files():
            taken = maintenance.sweep(pod.lake).taken
        pod.tell("swept", **{kind: one.count for kind, one in taken.items()})
        time.sleep(pod.random.uniform(0, 1))


def take_down(pod: Pod) -> None:
    """Takedowns, in all three ways to ask for one, and passes of their purge; now and then one that ends them."""
    doomed = [picture for pictures in pod.world.content for picture in pictures if picture.doomed]
    hasty = Lake(pod.lake.store, pod.lake.settings.model_copy(update={"purge_hours": 0.0}))
    while pod.limit is None:
        picture = pod.random.choice(doomed)
        kind, value = pod.random.choice(
            [("image_id", picture.image_id), ("url", picture.url), ("sha256", picture.sha256)]
        )
        with pod.files():
            pod.tell("asked", image_id=picture.image_id)  # before the tombstone: whoever is killed after it has asked
            takedown.add(pod.lake, takedown.Request.of([takedown.target(kind, value)], f"{kind} is not wanted"))
            takedown.purge(pod.lake)
            pod.tell("cut")
        if pod.random.random() < 0.3:
            with pod.files(alone=True):
                done = takedown.purge(hasty)
            pod.tell("purged", purged=sum(one.state == takedown.PURGED for one in done))
        time.sleep(pod.random.uniform(0, 3))


ROLES: dict[str, Callable[[Pod], None]] = {
    "write": write,
    "read": read,
    "compact": compact,
    "vacuum": vacuum,
    "sweep": sweep,
    "take_down": take_down,
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
