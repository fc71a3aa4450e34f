"""One work order from its first unfinished slice to its commit."""

from __future__ import annotations

import logging
import random
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa

from etl.errors import ConfigurationError
from etl.lake import Lake
from etl.lake.commit import FencedError
from etl.lake.orders import Order, commit_order, finish_slice, read_slice
from etl.stages.batches import Engine
from etl.stages.contract import Result
from etl.stages.outcomes import Header, slice_tables
from etl.stages.pictures import TarReader
from etl.stages.progress import Progress
from etl.stages.registry import stage_class
from etl.stages.scratch import scratch_folder
from etl.stages.slices import Answer, Item, SliceWorker
from etl.stages.stopping import DEFAULT_LIMIT, NOT_OURS, Judge, check_alive, dead, stop_order
from etl.stages.summary import CountError, add_counts, by_status
from etl.stages.upstream import Maker, read_upstream, taken_down

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OrderReport:
    """What became of an order: counts over all tries, and what this try did."""

    counts: Mapping[str, int] = field(default_factory=dict)
    worked: int = 0
    decode_wait_seconds: float = 0.0


class OrderWorker:
    """Works orders one after another with one engine.

    Args:
        lake: The lake.
        engine: The stage with its networks.
        limit: Share of an order's images that may fail, see ``etl.stages.stopping``.
    """

    def __init__(self, lake: Lake, engine: Engine, limit: float = DEFAULT_LIMIT) -> None:
        self._lake, self._engine, self._limit = lake, engine, limit

    def work(
        self, order: Order, watch: Callable[[Progress], None], where: Progress, *, helping: bool = False
    ) -> OrderReport:
        """Finish the slices that have no record, commit the order, and note the try in ``runs``.

        Args:
            order: The order.
            watch: Told about every batch and slice.
            where: Stage, shard and the shard's number for ``watch``.
            helping: Whether somebody else may be at it, from the first slice on: the slices are taken in a random
                order, so that the two seldom do the same one.

        Raises:
            FailureRateError: Too many images failed: the order is fenced, now or before.
            DeadOrderError: The order was fenced by others.
            GroundlakeError: Something stopped the order; its finished slices stay for the next try.
        """
        start, network = time.monotonic(), self._engine.network_seconds
        began = datetime.now(UTC)
        _check_unique(order)
        check_alive(self._lake, order)
        try:
            tries, wait = self._finish(order, _Tick(order, watch, where), helping)
            records = commit_order(self._lake, order, last="outcomes")
        except FencedError as error:  # a retry of this request would only meet the fence again
            raise dead(order) from error
        counts = add_counts(record.counts for record in records)
        _check_sum(order, counts, len(order.items))
        worked = add_counts(tries)
        if tries:
            self._note(order, worked, began, time.monotonic() - start, self._engine.network_seconds - network, wait)
        return OrderReport(counts, sum(worked.values()), wait)

    def _finish(self, order: Order, tick: _Tick, helping: bool) -> tuple[list[Mapping[str, int]], float]:
        judge, slices = Judge(order, self._limit), list(order.slices())
        todo = {number for number, _ in slices if not self._known(order, judge, number)}
        if helping:
            random.shuffle(slices)
        tries: list[Mapping[str, int]] = []
        with scratch_folder(self._lake.settings.scratch) as folder:
            items = [item for number, part in slices if number in todo for item in part]
            reader = TarReader(self._lake.store, items, folder)
            if items and self._engine.stage.needs_pixels:
                reader.prepare()
            worker = SliceWorker(self._engine, reader, self._lake.settings.decode_threads, tick)
            for number, part in slices:
                if number not in todo or self._known(order, judge, number):  # or a twin's by now
                    tick.slice_known(number, len(part))
                    continue
                counts = self._slice(order, worker, judge, number, part)
                tries.append(counts)
                tick.slice_finished(number, counts)
        return tries, worker.decode_wait_seconds

    def _known(self, order: Order, judge: Judge, number: int) -> bool:
        """Whether a slice is finished; its failures are counted then."""
        record = read_slice(self._lake, order.key, number)
        if record is not None:
            judge.add(number, record.counts)
        return record is not None

    def _slice(
        self, order: Order, worker: SliceWorker, judge: Judge, number: int, items: Sequence[Item]
    ) -> Mapping[str, int]:
        upstream = read_upstream(self._lake, items, makers(self._engine.stage.reads, order.header["upstream"]))
        answers = self._gone(worker.answer(items, upstream))
        header = Header(
            stage=order.header["stage"],
            annotator_id=order.header["annotator_id"],
            unit=order.key,
            requested_at=datetime.fromisoformat(order.header["requested_at"]),
        )
        tables, counts = slice_tables(header, answers)
        _check_sum(order, counts, len(items))
        judge.add(number, counts)
        if judge.problem is not None:
            stop_order(self._lake, order, judge.problem, _example(tables["outcomes"]))
        finish_slice(self._lake, order.key, number, tables, counts)
        return counts

    def _gone(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers; bytes that changed because their picture was taken down after the slice began are no fault."""
        changed = [answer.item["image_id"] for answer in answers if answer.result.reason == "bytes_changed"]
        gone = taken_down(self._lake, changed) if changed else frozenset()
        return [
            replace(answer, result=Result("failed", "taken_down")) if answer.item["image_id"] in gone else answer
            for answer in answers
        ]

    def _note(
        self, order: Order, worked: Mapping[str, int], began: datetime, seconds: float, network: float, wait: float
    ) -> None:
        row = {
            "run_id": uuid.uuid4().hex,
            "request": order.header["request"],
            "unit": order.key,
            "stage": order.header["stage"],
            "annotator_id": order.header["annotator_id"],
            "host": socket.gethostname(),
            "device": self._engine.device,
            "started_at": began,
            "seconds": seconds,
            "network_seconds": network,
            "decode_wait_seconds": wait,
            "images": sum(worked.values()),
            "batch": self._engine.batch_size,
            **{status: by_status(worked, status) for status in ("ok", "empty", "failed")},
        }
        self._lake.append("runs", [row], row["run_id"])


class _Tick:
    """Counts the images of an order and tells the watcher."""

    def __init__(self, order: Order, watch: Callable[[Progress], None], where: Progress) -> None:
        self._watch, self._where = watch, where
        self._slices = -(-len(order.items) // order.slice_size)
        self._total, self._done, self._number = len(order.items), 0, 0
        self._start = time.monotonic()

    def __call__(self, images: int) -> None:
        self._done += images
        self._tell({}, 0.0)

    def slice_known(self, number: int, images: int) -> None:
        """A slice that an earlier try, or a twin, has finished."""
        self._number = number + 1
        self(images)

    def slice_finished(self, number: int, counts: Mapping[str, int]) -> None:
        """A slice that this try has finished."""
        self._number = number
        now = time.monotonic()
        self._tell(counts, sum(counts.values()) / max(now - self._start, 1e-6))
        self._start, self._number = now, number + 1

    def _tell(self, counts: Mapping[str, int], rate: float) -> None:
        self._watch(
            replace(
                self._where,
                slice=self._number,
                slices=self._slices,
                done=self._done,
                total=self._total,
                counts=counts,
                images_per_second=rate,
            )
        )


def makers(reads: Sequence[str], upstream: Mapping[str, str]) -> list[Maker]:
    """Who made each table that a stage reads, as the order says that it works.

    Args:
        reads: Tables.
        upstream: Annotator by stage, of the stages before it.

    Raises:
        ConfigurationError: No stage before it writes one of them.
    """
    known = {
        table: Maker(table, stage, annotator)
        for stage, annotator in upstream.items()
        for table in stage_class(stage).tables
    }
    missing = sorted(set(reads) - set(known))
    if missing:
        raise ConfigurationError(f"the stage reads {missing}, which no stage before it writes")
    return [known[table] for table in reads]


def _example(outcomes: pa.Table) -> str:
    """The words of one failure."""
    rows = outcomes.select(["status", "reason", "error"]).to_pylist()
    own = [row for row in rows if row["status"] == "failed" and f"failed/{row['reason']}" not in NOT_OURS]
    return next((row["error"] for row in own if row["error"]), "")


def _check_unique(order: Order) -> None:
    distinct = len({item["image_id"] for item in order.items})
    if distinct != len(order.items):
        raise CountError(f"order {order.key} lists {len(order.items)} items of {distinct} images")


def _check_sum(order: Order, counts: Mapping[str, int], images: int) -> None:
    if sum(counts.values()) != images:
        raise CountError(f"order {order.key}: {images} images, but outcomes {dict(counts)}")
