"""Which device a stage computes on."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from etl.errors import ConfigurationError
from etl.stages.device import device_name, resolve_device, use_allowed_cores


@pytest.fixture
def machine(monkeypatch):
    """A stand-in for torch (importing the real one takes seconds) on a machine with so many GPUs."""

    def with_gpus(count: int) -> SimpleNamespace:
        cuda = SimpleNamespace(
            is_available=lambda: count > 0, device_count=lambda: count, get_device_name=lambda device: f"GPU {device}"
        )
        threads: list[int] = []
        torch = SimpleNamespace(__version__="2", cuda=cuda, set_num_threads=threads.append, threads=threads)
        monkeypatch.setitem(sys.modules, "torch", torch)
        return torch

    return with_gpus


@pytest.mark.parametrize(
    ("gpus", "wanted", "device"),
    [
        (0, "auto", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_a_wish_becomes_a_torch_device(machine, gpus, wanted, device):
    machine(gpus)

    assert resolve_device(wanted) == device


@pytest.mark.parametrize(("gpus", "wanted"), [(0, "cuda"), (1, "cuda:1")])
def test_a_gpu_that_is_not_there_is_refused_with_a_way_out(machine, gpus, wanted):
    machine(gpus)

    with pytest.raises(ConfigurationError, match=rf"sees {gpus} CUDA devices[\s\S]*pass --device cpu"):
        resolve_device(wanted)


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:x", "mps", ""])
def test_an_unknown_device_is_refused(wanted):
    with pytest.raises(ConfigurationError, match="known: auto, cpu, cuda, cuda:N"):
        resolve_device(wanted)


def test_the_name_of_a_gpu_is_kept_for_runs(machine):
    machine(1)

    assert (device_name("cpu"), device_name("cuda:0")) == ("cpu", "GPU cuda:0")


@pytest.mark.parametrize(("given", "threads"), [("3", 3), ("", 5), ("0", 5), ("many", 5)])
def test_torch_takes_the_threads_it_was_given_else_the_cores_it_may_use(machine, monkeypatch, given, threads):
    torch = machine(0)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(5), raising=False)

    assert use_allowed_cores() == threads
    assert torch.threads == [threads]
