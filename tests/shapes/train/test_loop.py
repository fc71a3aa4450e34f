"""The training loop: it ends where the plan says, however often it is stopped."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from etl.shapes.train import loop
from etl.shapes.train.loop import CHECKPOINT, Plan, Task, train


class Line(Task):
    """Learns to answer 3; ``told`` are the steps it was asked for."""

    name = "line"

    def __init__(self, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.modules = nn.ModuleDict({"network": nn.Linear(1, 1)})
        self.told: list[int] = []
        self.stop_at = stop_at

    def loss(self, pool, plan, step):
        self.told.append(step)
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        answer = self.modules["network"](torch.ones(plan.batch, 1)).float()
        return (answer - 3).square().mean(), {"answer": float(answer.detach().mean())}

    def score(self):
        return {"answer": self.answer()}

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "answer").write_text(str(self.answer()))

    def answer(self) -> float:
        with torch.no_grad():
            return float(self.modules["network"](torch.ones(1, 1)))


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / CHECKPOINT, weights_only=True)


def plan(steps: int) -> Plan:
    return Plan(steps=steps, batch=4, learning_rate=0.05)


def test_training_ends_with_the_last_step_a_checkpoint_and_a_network_that_has_learned(tmp_path: Path):
    task = Line()
    before = task.answer()
    train(task, plan(200), tmp_path)
    assert task.told == list(range(200))
    assert checkpoint(tmp_path)["step"] == 200
    assert abs(task.answer() - 3) < abs(before - 3) / 4


def test_what_is_scored_and_saved_are_the_averaged_weights(tmp_path: Path):
    task = Line()
    train(task, plan(20), tmp_path)
    saved = float((tmp_path / "network" / "answer").read_text())
    found = checkpoint(tmp_path)
    averaged = sum(float(found["average"][f"network.{name}"]) for name in ("weight", "bias"))
    assert saved == found["scores"]["answer"] == pytest.approx(averaged)
    assert saved != pytest.approx(task.answer(), abs=1e-4)


def test_a_stopped_training_goes_on_to_the_same_step(tmp_path: Path):
    first, second, third = Line(stop_at=4), Line(), Line()
    train(first, plan(10), tmp_path)
    assert checkpoint(tmp_path)["step"] == 5
    train(second, plan(10), tmp_path)
    train(third, plan(10), tmp_path)
    assert (first.told, second.told, third.told) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [])
    assert checkpoint(tmp_path)["step"] == 10


def test_a_stopped_training_learns_what_one_that_was_not_stopped_learns(tmp_path: Path):
    whole, halves = Line(), [Line(stop_at=6), Line()]
    train(whole, plan(12), tmp_path / "whole")
    for half in halves:
        train(half, plan(12), tmp_path / "halves")
    assert halves[1].answer() == whole.answer()
    for name, value in checkpoint(tmp_path / "whole")["average"].items():
        torch.testing.assert_close(checkpoint(tmp_path / "halves")["average"][name], value)


def test_a_checkpoint_that_was_not_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train(Line(stop_at=2), plan(10), tmp_path)
    monkeypatch.setattr(loop.torch, "save", lambda content, file: Path(file).write_bytes(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(Line(), plan(10), tmp_path)
    assert checkpoint(tmp_path)["step"] == 3


def test_cpu_seconds_of_all_lives_are_counted(tmp_path: Path):
    train(Line(stop_at=2), plan(10), tmp_path)
    before = checkpoint(tmp_path)["seconds"]
    train(Line(), plan(10), tmp_path)
    assert checkpoint(tmp_path)["seconds"] > before > 0
