"""The batch of a kind of device: which one is chosen, when the ladder ends, and that the runner takes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fake_stages import FakeTag
from real_models import model_store

from etl.errors import ConfigurationError
from etl.settings import load_catalog
from etl.settings.catalog import STAGES
from etl.stages import tune as tuning
from etl.stages.failures import OutOfMemoryError
from etl.stages.registry import stage_class
from etl.stages.tune import Step, choose, tune
from etl.stages.tune_items import sample_items
from etl.stages.tune_memory import HostMemory, memory_of

SMALL = (96, 64)


def steps(*rates: float, peak: int = 1) -> list[Step]:
    return [Step(2**number, rate, peak) for number, rate in enumerate(rates)]


class FakeMemory:
    """A device of 100 bytes on which weights take ten, and each image of a batch five."""

    total = 100

    def __init__(self, survives: bool) -> None:
        self.survives = survives

    def begin(self) -> None:
        pass

    def peak(self) -> int:
        return 10 + 5 * len(FakeTag.seen[-1])


@pytest.fixture
def measure(fakes, tmp_path, monkeypatch):
    """Tunes the fake tagger, whose every batch takes a hundredth of a second, at least by its own account."""
    monkeypatch.setattr(tuning, "MIN_SECONDS", 0.0)

    def run(max_batch: int = 256, **options: Any) -> Any:
        entry = fakes.entry("tag", **{"seconds": 0.01, **options})
        return tune(entry, model_store(tmp_path), "cpu", max_batch=max_batch, size=SMALL)

    return run


class TestChoice:
    def test_the_smallest_batch_near_the_best_rate_is_taken(self):
        assert choose(steps(10, 19, 30, 31, 31.4), 100) == 4

    def test_a_batch_that_leaves_too_little_memory_is_not_taken(self):
        measured = [Step(1, 10, 20), Step(2, 20, 40), Step(4, 40, 80), Step(8, 80, 81)]
        assert choose(measured, 100) == 4

    def test_a_device_on_which_nothing_leaves_enough_takes_one_picture_at_a_time(self):
        assert choose([Step(1, 10, 90), Step(2, 20, 95)], 100) == 1


class TestLadder:
    def test_memory_that_runs_out_ends_it_and_not_the_command(self, measure):
        found = measure(memory=4)
        assert [step.batch for step in found.steps] == [1, 2, 4]
        assert (found.batch, found.ended) == (4, "memory ran out at 8")

    def test_one_picture_that_does_not_fit_is_an_error(self, measure):
        with pytest.raises(OutOfMemoryError, match="one image does not fit"):
            measure(memory=0)

    def test_doublings_that_bring_nothing_end_it(self, measure, monkeypatch):
        monkeypatch.setattr(tuning._Ladder, "_measure", lambda _, size: Step(size, 10 + size / 100, 1))
        found = measure()
        assert [step.batch for step in found.steps] == [1, 2, 4]
        assert (found.batch, found.ended, found.flat) == (1, "two doublings brought less than 5%", True)

    def test_the_largest_batch_ends_it(self, measure):
        found = measure(max_batch=5)
        assert ([step.batch for step in found.steps], found.flat) == ([1, 2, 4], False)
        assert found.ended == "the largest batch to try was 5"

    @pytest.mark.parametrize(
        ("survives", "tried", "ended"),
        [(True, 16, "a batch of 16 leaves less than 20%"), (False, 8, "a batch of 16 would leave less than 20%")],
    )
    def test_memory_that_ends_the_process_is_not_tried_out(
        self, measure, monkeypatch, survives: bool, tried: int, ended: str
    ):
        monkeypatch.setattr(tuning, "memory_of", lambda _: FakeMemory(survives))
        found = measure()
        assert found.steps[-1].batch == tried
        assert found.ended.startswith(ended)
        assert (found.batch, found.leaves_reserve) == (8, True)

    def test_what_the_first_call_costs_does_not_count(self, measure, fakes):
        measure(max_batch=1)
        assert len(fakes.FakeTag.seen) == 1 + tuning.MIN_BATCHES

    def test_a_model_that_fails_is_not_tuned(self, measure):
        with pytest.raises(ConfigurationError, match="fails on a drawn picture: not_finite: NaN"):
            measure(fails=[sample_items(1, SMALL)[0].image_id])


class TestWork:
    def test_it_is_the_same_at_every_call(self):
        one, two = (sample_items(3, SMALL) for _ in range(2))
        assert [(item.upstream, item.picture.tobytes()) for item in one] == [
            (item.upstream, item.picture.tobytes()) for item in two
        ]

    def test_texts_of_different_pictures_differ_though_pictures_come_round_again(self):
        items = sample_items(20, SMALL)
        texts = [row["caption"] for item in items for row in item.upstream["captions"]]
        assert len(set(texts)) == len(texts)
        assert items[0].picture is items[8].picture

    @pytest.mark.parametrize("stage", STAGES)
    def test_no_stage_skips_it(self, stage: str):
        made = stage_class(stage)(load_catalog().model(stage))
        assert [made.skip(item) for item in sample_items(8, SMALL)] == [None] * 8


@pytest.mark.parametrize("stage", STAGES)
def test_real_networks_answer_the_drawn_pictures(tmp_path, monkeypatch, stage: str):
    monkeypatch.setattr(tuning, "MIN_SECONDS", 0.0)
    seen: list[Step] = []
    found = tune(load_catalog().model(stage), model_store(tmp_path), "cpu", max_batch=2, size=SMALL, watch=seen.append)
    assert (found.kind, found.dtype, found.answers) == ("cpu", "float32", {"ok": 2})
    assert [step.batch for step in found.steps] == [step.batch for step in seen] == [1, 2]
    assert 0 < found.steps[0].peak_bytes <= found.steps[1].peak_bytes <= found.memory_bytes


def test_memory_of_a_cpu_is_the_hosts():
    assert isinstance(memory_of("cpu"), HostMemory)
    assert 0 < memory_of("cpu").peak() < memory_of("cpu").total


def test_memory_of_a_gpu_is_what_torch_has_reserved_since_the_last_size(monkeypatch):
    import torch

    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(device))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 7 * (device == "cuda:1"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=100))
    memory = memory_of("cuda:1")
    memory.begin()
    assert (calls, memory.peak(), memory.total, memory.survives) == (["empty", "cuda:1"], 7, 100, True)


class TestRunner:
    def sized(self, desk: Any, fakes: Any, **sizes: int) -> None:
        desk.entries["tag"] = fakes.entry("tag", batch_size=4).model_copy(update={"batch_sizes": sizes})

    def test_batches_have_the_size_of_the_kind_of_device(self, desk, many, fakes):
        self.sized(desk, fakes, cpu=7, other=2)
        desk.run()
        assert [len(batch) for batch in fakes.FakeTag.seen] == [7, 3, 7, 3, 5]
        assert [row["batch"] for row in desk.raw("runs")] == [7]

    def test_another_kind_of_device_has_the_general_size(self, desk, many, fakes):
        self.sized(desk, fakes, other=2)
        desk.run()
        assert max(len(batch) for batch in fakes.FakeTag.seen) == 4

    def test_the_size_of_the_device_is_halved_when_memory_runs_out(self, desk, many, fakes):
        desk.entries["tag"] = fakes.entry("tag", batch_size=4, memory=3).model_copy(update={"batch_sizes": {"cpu": 8}})
        desk.run()
        assert [row["batch"] for row in desk.raw("runs")] == [2]

    def test_in_reduced_precision_the_last_batch_is_filled_up_to_it(self, desk, many, fakes):
        self.sized(desk, fakes, cpu=6)
        desk.entries["tag"] = desk.entries["tag"].model_copy(update={"dtype": "bfloat16"})
        desk.run()
        assert {len(batch) for batch in fakes.FakeTag.seen} == {6}
