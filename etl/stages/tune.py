"""The batch that a model does best with on the device at hand, measured with the code that runs in production."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from etl.errors import ConfigurationError
from etl.models.store import ModelStore
from etl.settings import ModelEntry
from etl.stages.batches import BatchTooLargeError, Engine
from etl.stages.contract import Result, WorkItem
from etl.stages.device import resolve_device
from etl.stages.registry import stage_class
from etl.stages.tune_items import sample_items
from etl.stages.tune_memory import Memory, memory_of

RESERVE = 0.2  # of the device's memory: real pictures hold more objects and longer texts than the drawn ones
NEAR = 0.95  # of the best rate: a smaller batch that reaches it wastes less when the last one is not full
HARDLY_LESS = 0.85  # of the best rate: timings on a machine that does other things too are no better than that
SMALL_GAIN = 1.05  # two doublings in a row that bring less than this end the ladder
MIN_BATCHES, MAX_BATCHES, MIN_SECONDS = 3, 50, 1.0  # timed per size

Watch = Callable[["Step"], None]


@dataclass(frozen=True)
class Step:
    """One size of batch: images per second, and the highest level of the device's memory in bytes."""

    batch: int
    images_per_second: float
    peak_bytes: int


@dataclass(frozen=True)
class Tuning:
    """What was measured for a model on a device.

    Attributes:
        model: Name of the model.
        stage: Its stage.
        dtype: What its networks compute in.
        kind: Kind of device, the key of ``batch_sizes``.
        memory_bytes: What the device has.
        steps: What was measured, by size of batch.
        batch: The smallest batch that comes near the best rate of those that leave the reserve.
        ended: Why no larger batch was tried.
        answers: Outcomes of the drawn pictures, ``status`` or ``status/reason``.
    """

    model: str
    stage: str
    dtype: str
    kind: str
    memory_bytes: int
    steps: tuple[Step, ...]
    batch: int
    ended: str
    answers: Mapping[str, int]

    @property
    def best(self) -> float:
        """The best rate of all steps, in images per second."""
        return max(step.images_per_second for step in self.steps)

    @property
    def flat(self) -> bool:
        """Whether a batch of one is nearly as good as any."""
        return self.steps[0].images_per_second >= HARDLY_LESS * self.best

    @property
    def leaves_reserve(self) -> bool:
        """Whether the chosen batch does; only a batch of one may not."""
        return any(step.batch == self.batch and step.peak_bytes <= _limit(self.memory_bytes) for step in self.steps)


def tune(
    entry: ModelEntry,
    models: ModelStore,
    device: str,
    *,
    max_batch: int = 256,
    size: tuple[int, int] = (640, 480),
    watch: Watch = lambda _: None,
) -> Tuning:
    """Measure a model's stage at batches of 1, 2, 4 … and choose one.

    Each size is run once before it is timed, so that what a kernel costs at its first call does not count.

    Args:
        entry: The model.
        models: Where its weights are.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        max_batch: The largest batch to try.
        size: Width and height of the drawn pictures in pixels.
        watch: Told about every step.

    Raises:
        ConfigurationError: Device, options or weights are wrong, or the model fails on a drawn picture.
        OutOfMemoryError: Not even one picture fits.
        RetryableError: The place failed.
    """
    place = resolve_device(device)
    engine, memory = Engine(stage_class(entry.stage)(entry), models, place), memory_of(place)
    engine.load()
    ladder = _Ladder(engine, memory, sample_items(max_batch, size))
    steps = []
    for step in ladder.climb():
        steps.append(step)
        watch(step)
    return Tuning(
        model=entry.name,
        stage=entry.stage,
        dtype=entry.dtype,
        kind=engine.device,
        memory_bytes=memory.total,
        steps=tuple(steps),
        batch=choose(steps, memory.total),
        ended=ladder.ended,
        answers=dict(sorted(ladder.answers.items())),
    )


def choose(steps: Sequence[Step], memory_bytes: int) -> int:
    """The smallest batch near the best rate of those that leave the reserve; the first where none does.

    >>> choose([Step(1, 10.0, 10), Step(2, 19.0, 20), Step(4, 19.5, 40), Step(8, 30.0, 90)], 100)
    2
    """
    fitting = [step for step in steps if step.peak_bytes <= _limit(memory_bytes)] or steps[:1]
    best = max(step.images_per_second for step in fitting)
    return min(step.batch for step in fitting if step.images_per_second >= NEAR * best)


def _limit(memory_bytes: int) -> float:
    return (1 - RESERVE) * memory_bytes


class _Ladder:
    """Batches of 1, 2, 4 … until one of the reasons to end that ``ended`` then tells."""

    def __init__(self, engine: Engine, memory: Memory, items: Sequence[WorkItem]) -> None:
        self._engine, self._memory, self._items = engine, memory, items
        self.ended = f"the largest batch to try was {len(items)}"
        self.answers: Counter[str] = Counter()

    def climb(self) -> Iterator[Step]:
        """Measure one size after the other."""
        steps: list[Step] = []
        size = 1
        while size <= len(self._items):
            try:
                step = self._measure(size)
            except BatchTooLargeError:
                if size == 1:
                    self._engine.shrink()  # raises what a stage would
                self.ended = f"memory ran out at {size}"
                return
            yield step
            steps.append(step)
            size *= 2
            if reason := self._enough(steps):
                self.ended = reason
                return

    def _measure(self, size: int) -> Step:
        self._engine.batch_size = size
        self._memory.begin()
        batch = self._items[:size]
        self._check(self._engine.answer(batch))
        seconds: list[float] = []
        while len(seconds) < MIN_BATCHES or (sum(seconds) < MIN_SECONDS and len(seconds) < MAX_BATCHES):
            start = time.perf_counter()
            self._engine.answer(batch)  # rows are on the host when it returns: nothing is left to wait for
            seconds.append(time.perf_counter() - start)
        return Step(size, size / statistics.median(seconds), self._memory.peak())

    def _check(self, results: Sequence[Result]) -> None:
        self.answers = Counter("/".join(filter(None, (one.status, one.reason))) for one in results)
        failed = next((one for one in results if one.status == "failed"), None)
        if failed is not None:
            entry = self._engine.stage.entry
            raise ConfigurationError(
                f"model {entry.name!r} fails on a drawn picture: {failed.reason}: {failed.error}",
                remedy="check its weights with 'groundlake models verify', and its options",
            )

    def _enough(self, steps: Sequence[Step]) -> str | None:
        """Why a larger batch need not, or must not, be tried."""
        rates, limit = [step.images_per_second for step in steps], _limit(self._memory.total)
        if len(rates) > 2 and max(rates[-2:]) < SMALL_GAIN * max(rates[:-2]):
            return f"two doublings brought less than {SMALL_GAIN - 1:.0%}"
        last = steps[-1]
        if last.peak_bytes > limit:
            return f"a batch of {last.batch} leaves less than {RESERVE:.0%} of the memory free"
        # What a batch takes grows with its size: the next doubling adds twice what this one did.
        forecast = last.peak_bytes + 2 * (last.peak_bytes - steps[-2].peak_bytes) if len(steps) > 1 else 0
        if not self._memory.survives and forecast > limit:
            return f"a batch of {2 * last.batch} would leave less than {RESERVE:.0%} of the memory free"
        return None
