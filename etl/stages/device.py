"""The device a stage computes on, and how many threads it may use there."""

from __future__ import annotations

import os
import re

from etl.errors import ConfigurationError


def resolve_device(wanted: str) -> str:
    """The torch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigurationError: It is none of these, or this machine has no such GPU.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        raise ConfigurationError(f"unknown device {wanted!r}; known: auto, cpu, cuda, cuda:N")
    if wanted == "cpu":
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda:0" if count else "cpu"
    number = int(wanted.partition(":")[2] or 0)
    if number >= count:
        raise ConfigurationError(
            f"device {wanted!r} is not there: torch {torch.__version__} sees {count} CUDA devices",
            remedy="pass --device cpu or auto; on a GPU machine check nvidia-smi and that torch is a CUDA build",
        )
    return f"cuda:{number}"


def device_name(device: str) -> str:
    """The name of a torch device as the ``runs`` table keeps it: ``cpu``, or the GPU's name."""
    if device == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(device)


def use_allowed_cores() -> int:
    """Let torch use ``OMP_NUM_THREADS`` threads, else as many as this process may have cores; returns how many.

    A container sees all cores of its machine; torch would start a thread for each and they would get in each other's
    way.
    """
    import torch

    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdigit() and int(given) > 0 else _cores()
    torch.set_num_threads(threads)
    return threads


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1
