"""Counts of what a stage did; they add up to the images that were asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from etl.errors import GroundlakeError


class CountError(GroundlakeError):
    """Counts that must be equal differ: a bug of groundlake, found before anything wrong was committed."""


def by_status(counts: Mapping[str, int], status: str) -> int:
    """The images of a status, over all reasons; keys are ``ok`` or ``empty/no_tags``."""
    return sum(n for key, n in counts.items() if key.partition("/")[0] == status)


def add_counts(many: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums per key.

    >>> add_counts([{"ok": 1}, {"ok": 2, "failed/decode": 1}])
    {'failed/decode': 1, 'ok': 3}
    """
    total: Counter[str] = Counter()
    for counts in many:
        total.update(counts)
    return dict(sorted(total.items()))


@dataclass(frozen=True)
class StageSummary:
    """What one stage made of one group.

    Attributes:
        stage: Stage.
        model: Model of the catalog.
        annotator_id: The annotator, or empty when the stage could not begin.
        untrained: The answers mean nothing: random weights.
        orders: Work orders with images.
        counts: Images by ``status`` or ``status/reason``, over all tries of the request.
        worked: Images this try worked on; the others were finished by an earlier one.
        waiting: Images of the group that have no outcome of an upstream stage yet.
        seconds: Wall time of this try.
        network_seconds: Of it, time spent in the networks.
        decode_wait_seconds: Of it, time the networks waited for decoded pictures.
        note: What a reader should know, such as that the upstream stage has not run.
    """

    stage: str
    model: str
    annotator_id: str
    untrained: bool
    orders: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    worked: int = 0
    waiting: int = 0
    seconds: float = 0.0
    network_seconds: float = 0.0
    decode_wait_seconds: float = 0.0
    note: str = ""

    @property
    def images(self) -> int:
        """Images with an outcome."""
        return sum(self.counts.values())

    @property
    def ok(self) -> int:
        """Images with a result."""
        return by_status(self.counts, "ok")

    @property
    def empty(self) -> int:
        """Images in which there is nothing to find."""
        return by_status(self.counts, "empty")

    @property
    def failed(self) -> int:
        """Images that failed."""
        return by_status(self.counts, "failed")

    @property
    def images_per_second(self) -> float:
        """Throughput of this try."""
        return self.worked / self.seconds if self.seconds else 0.0
