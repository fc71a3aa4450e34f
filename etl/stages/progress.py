"""What a running stage tells whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One step of a work order: a batch was answered, or a slice was finished.

    Attributes:
        stage: Stage.
        shard: Shard of the order; the first one where it packs several.
        shard_number: Number of the order in the group, from 0.
        shards: Orders of the group: one per shard, but for those that pack several.
        slice: Number of the slice, from 0.
        slices: Slices of the order.
        done: Images of the order that are done.
        total: Images of the order.
        counts: Images by ``status`` or ``status/reason`` when the step finished a slice, else empty.
        images_per_second: Throughput of a finished slice; 0 for one that an earlier try had finished.
    """

    stage: str
    shard: str
    shard_number: int
    shards: int
    slice: int
    slices: int
    done: int
    total: int
    counts: Mapping[str, int] = field(default_factory=dict)
    images_per_second: float = 0.0


Watch = Callable[[Progress], None]
