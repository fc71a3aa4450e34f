"""Clocks, FLOPs, the speed of matrix products, and the source pipelines' way of running a network."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from etl.models import sam
from etl.models.grounding_dino import tf32_products
from etl.models.reading import DTYPES

SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is timed


def short(value: float) -> str:
    """A number with three digits that count.

    >>> short(1204.3), short(0.0332)
    ('1,204', '0.0332')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def kind_of(device: str) -> str:
    """``cpu`` or ``cuda``."""
    return device.partition(":")[0]


def seconds(work: Callable[[], object], device: str, repeats: int, warm: int = 1) -> float:
    """Seconds of a call after ``warm`` calls.

    On a GPU the median of ``repeats``, read when it has finished. On a CPU the least, of the time that this process
    computed: the benchmark has one thread there, and what else runs on the machine does not count.
    """
    clock = time.process_time if kind_of(device) == "cpu" else time.perf_counter
    taken = []
    for number in range(warm + repeats):
        finish(device)
        start = clock()
        work()
        finish(device)
        if number >= warm:
            taken.append(clock() - start)
    return min(taken) if kind_of(device) == "cpu" else statistics.median(taken)


def finish(device: str) -> None:
    """Wait for all that a GPU was told to do."""
    if kind_of(device) == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: str, precision: str) -> float:
    """FLOP per second of a large product of square matrices: float32, tf32 or bfloat16."""
    side = SIDE[kind_of(device)]
    dtype = DTYPES["float32" if precision == "tf32" else precision]
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    with tf32_products(precision == "tf32"):
        taken = seconds(lambda: one @ other, device, repeats=15, warm=5)
    return 2 * side**3 / taken


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call, two per multiplication and sum."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # so that attention is made of products that are counted
        work()
    return counter.get_total_flops()


def frozen(engine: Any) -> Any:
    """The engine, its parameters without gradients: what counts operations stumbles over them in inference mode."""
    for part in vars(engine).values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False)
    return engine


@contextlib.contextmanager
def source_way(boxes: int) -> Iterator[None]:
    """The source pipelines' way for a network that was opened in float32: plain attention, no filling up.

    SAM decodes all ``boxes`` of its one picture in one call, as upstream's predictor does.
    """
    with (
        sdpa_kernel(SDPBackend.MATH),
        mock.patch.object(sam, "BOXES_PER_CALL", boxes),
        mock.patch.object(sam, "steady_size", lambda size, _device, _dtype: size),
    ):
        yield
