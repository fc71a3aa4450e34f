"""How much memory a device has, and how much of it was taken at most."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Protocol

import psutil

# What a container may take, as version 2 and version 1 of Linux's control groups say it.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Memory(Protocol):
    """The memory that a batch takes. ``survives`` says whether running out of it raises, or ends the process."""

    survives: bool

    @property
    def total(self) -> int:
        """Bytes there are."""
        ...

    def begin(self) -> None:
        """Forget the highest level so far, where that can be done."""
        ...

    def peak(self) -> int:
        """Highest level in bytes, weights included."""
        ...


class HostMemory:
    """This machine's memory, or the part of it that a container may have; the level is that of this whole process."""

    survives = False

    @property
    def total(self) -> int:
        limits = [file.read_text().strip() for file in _LIMITS if file.is_file()]
        return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit.isdecimal())])

    def begin(self) -> None:
        pass  # the system keeps one highest level for the life of a process: batches are to grow

    def peak(self) -> int:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class GpuMemory:
    """Memory of a GPU that this process holds: what torch has reserved, not only what tensors use of it.

    Args:
        device: ``cuda:N``.
    """

    survives = True

    def __init__(self, device: str) -> None:
        self._device = device

    @property
    def total(self) -> int:
        import torch

        return int(torch.cuda.get_device_properties(self._device).total_memory)

    def begin(self) -> None:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int:
        import torch

        return int(torch.cuda.max_memory_reserved(self._device))


def memory_of(device: str) -> Memory:
    """The memory of a torch device."""
    return HostMemory() if device == "cpu" else GpuMemory(device)
