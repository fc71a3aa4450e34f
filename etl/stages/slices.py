"""One slice of a work order: every item gets exactly one answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from etl.errors import RetryableError
from etl.stages.batches import BatchTooLargeError, Engine, batches, check_result
from etl.stages.contract import Result, WorkItem
from etl.stages.failures import check_error_rate, words
from etl.stages.pictures import Broken, TarReader, decode
from etl.stages.prefetch import Prefetcher
from etl.stages.upstream import Upstream

MAX_PIXELS_AHEAD = 256_000_000  # decoded RGB pixels that may wait for the network: 768 MB
Item = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What became of an item of an order, and its share of the network's time in seconds."""

    item: Item
    result: Result
    seconds: float = 0.0


class SliceWorker:
    """Answers slices with one engine and one tar reader.

    Args:
        engine: The stage.
        reader: The pictures' bytes; not used by a stage without ``needs_pixels``.
        threads: Threads that decode.
        tick: Called with the number of images answered since the last call.
    """

    def __init__(self, engine: Engine, reader: TarReader, threads: int, tick: Callable[[int], None]) -> None:
        self._engine, self._reader, self._threads, self._tick = engine, reader, threads, tick
        self.decode_wait_seconds = 0.0

    def answer(self, items: Sequence[Item], upstream: Upstream) -> list[Answer]:
        """One answer per item, in the order of ``items``.

        Raises:
            FailureRateError: So many images raised errors that the code must be wrong.
            RetryableError: The place failed.
        """
        answers: dict[str, Answer] = {}
        pending: list[tuple[Item, WorkItem]] = []
        for item in items:
            work = WorkItem(
                item["image_id"], item["shard_id"], item["width"], item["height"], None, upstream.of(item["image_id"])
            )
            result = self._without_network(item, work, upstream)
            if result is None:
                pending.append((item, work))
            else:
                answers[item["image_id"]] = Answer(item, result)
        self._tick(len(answers))
        if pending:
            self._engine.load()
            answers.update(self._until_it_fits(pending, len(items)))
        errors = [a.result.error or "" for a in answers.values() if a.result.reason == "error"]
        check_error_rate(len(errors), len(items), errors[-1] if errors else "")
        return [answers[item["image_id"]] for item in items]

    def _without_network(self, item: Item, work: WorkItem, upstream: Upstream) -> Result | None:
        if item["image_id"] in upstream.taken_down:
            return Result("failed", "taken_down")
        if item["upstream_status"] == "failed":
            return Result("failed", "upstream_failed", error=f"upstream: {item['upstream_reason']}")
        try:
            result = self._engine.stage.skip(work)
            if result is not None:
                check_result(self._engine.stage, result)
        except RetryableError:  # such as being told to stop
            raise
        except Exception as error:  # noqa: BLE001 - one image's odd rows must not stop the others
            return Result("failed", "error", error=words(error), retryable=True)
        return result

    def _until_it_fits(self, pending: Sequence[tuple[Item, WorkItem]], images: int) -> dict[str, Answer]:
        groups: dict[Hashable, list[tuple[Item, WorkItem]]] = {}
        for item, work in pending:
            groups.setdefault(self._engine.stage.shape(work.width, work.height), []).append((item, work))
        ordered = [(item, work, shape) for shape, members in groups.items() for item, work in members]
        while True:
            fits, answers = self._attempt(ordered, images)
            if fits:
                return answers
            self._engine.shrink()

    def _attempt(
        self, ordered: Sequence[tuple[Item, WorkItem, Hashable]], images: int
    ) -> tuple[bool, dict[str, Answer]]:
        answers: dict[str, Answer] = {}
        items = {item["image_id"]: item for item, _, _ in ordered}
        errors = 0
        try:
            with closing(self._decoded(ordered, answers)) as decoded:
                for batch in batches(decoded, self._engine.batch_size, mixed=self._engine.stage.mixes_shapes):
                    start = time.monotonic()
                    results = self._engine.answer(batch)
                    seconds = (time.monotonic() - start) / len(batch)
                    for work, result in zip(batch, results, strict=True):
                        answers[work.image_id] = Answer(items[work.image_id], result, seconds)
                        if result.reason == "error":
                            errors += 1
                            check_error_rate(errors, images, result.error or "")
                    self._tick(len(batch))
        except BatchTooLargeError:  # the caller halves the batch after this frame, and its pictures, are gone
            self._tick(-len(answers))
            return False, {}
        return True, answers

    def _decoded(
        self, ordered: Sequence[tuple[Item, WorkItem, Hashable]], answers: dict[str, Answer]
    ) -> Generator[tuple[WorkItem, Hashable], None, None]:
        """Work items with pixels; those whose picture is broken go straight to ``answers``."""
        if not self._engine.stage.needs_pixels:
            yield from ((work, shape) for _, work, shape in ordered)
            return
        prefetcher: Prefetcher[tuple[Item, WorkItem, Hashable], Image.Image | Broken] = Prefetcher(
            lambda one: self._picture(one[0]),
            threads=self._threads,
            ahead=self._engine.batch_size + 2 * self._threads,
            weigh=lambda one: one[1].width * one[1].height,
            max_weight=MAX_PIXELS_AHEAD,
        )
        try:
            for (item, work, shape), picture in prefetcher.over(ordered):
                if isinstance(picture, Broken):
                    result = Result("failed", picture.reason, error=picture.error, retryable=picture.retryable)
                    answers[work.image_id] = Answer(item, result)
                    self._tick(1)
                else:
                    yield replace(work, picture=picture), shape
        finally:
            self.decode_wait_seconds += prefetcher.waited

    def _picture(self, item: Item) -> Image.Image | Broken:
        data = self._reader.read(item)
        return data if isinstance(data, Broken) else decode(data, item["width"], item["height"])
