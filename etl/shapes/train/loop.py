"""One training loop for all networks: AdamW with a cosine, averaged weights, checkpoints it resumes from."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from etl.shapes.train.pool import Pool

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.pt"
_NO_DECAY = ("norm", "embed", "bias", "sampling_offsets", "position")


@dataclass(frozen=True)
class Plan:
    """How long and how fast a network learns.

    Attributes:
        steps: Batches in all.
        batch: Pictures per batch.
        learning_rate: At its highest, after the warm-up of 3 % of the steps; it ends at 1 % of it.
        weight_decay: Of matrices only.
        clip: Largest norm of a step's gradient.
        seed: Of the weights and of the data.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.05
    clip: float = 1.0
    seed: int = 0


class Task(ABC):
    """A network that learns: its modules, a loss, a score."""

    name: str
    modules: nn.ModuleDict
    device = torch.device("cpu")  # of the modules; scenes are drawn, and what is known of them lies, on the CPU

    @abstractmethod
    def loss(self, pool: Pool, plan: Plan, step: int) -> tuple[torch.Tensor, Mapping[str, float]]:
        """The loss of the next batch, and numbers worth watching."""

    @abstractmethod
    def score(self) -> dict[str, float]:
        """Scores on held-out scenes, of the weights the modules have now."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the network as a folder the loaders read."""

    def resumed(self, progress: float) -> None:  # noqa: B027 - most have nothing to do
        """Called when the modules have the weights of a checkpoint taken when ``progress`` (0..1) was done."""

    def rate(self, parameter: str, progress: float) -> float:
        """Factor of the learning rate of one parameter when ``progress`` (0..1) of the steps are done."""
        return 1.0


def train(task: Task, plan: Plan, folder: Path, device: str = "cpu") -> None:
    """Train ``task`` until the plan's last step, from the checkpoint in ``folder`` where there is one.

    SIGTERM ends it after the step at hand, with a checkpoint. A checkpoint of one device goes on on any other; a plan
    that was made longer goes on where its own curve of the learning rate is at that step.

    Args:
        task: What learns.
        plan: How long and how fast.
        folder: Gets the checkpoint, and the network in ``network``.
        device: ``cpu``, or ``cuda`` for a GPU.
    """
    folder.mkdir(parents=True, exist_ok=True)
    task.device = torch.device(device)
    task.modules.to(task.device)
    run = _Run(task, plan, folder)
    run.resume()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: stopped.append(signum))
    while run.step < plan.steps and not stopped:
        run.learn()
        if run.step % 50 == 0:
            log.info(run.line())
        if run.due() or run.step == plan.steps or stopped:
            with run.averaged():
                scores = task.score()
                task.save(folder / "network")
            run.save(scores)
            log.info("%s: step %d, %.0f CPU-s: %s", task.name, run.step, run.seconds, json.dumps(scores))


class _Run:
    def __init__(self, task: Task, plan: Plan, folder: Path) -> None:
        self.task, self.plan, self.folder = task, plan, folder
        self.step, self._before = 0, 0.0
        self._watched: dict[str, float] = {}
        self.pool = Pool(plan.seed)
        named = {name: p for name, p in task.modules.named_parameters() if p.requires_grad}
        self.groups = [
            {"params": [p], "name": name, "weight_decay": _decay(name, p, plan.weight_decay)}
            for name, p in named.items()
        ]
        self.optimizer = torch.optim.AdamW(self.groups, lr=plan.learning_rate, betas=(0.9, 0.98))
        self.average = {name: p.detach().clone() for name, p in named.items()}
        self.named = named
        self._start, self._saved = time.process_time(), time.monotonic()

    @property
    def seconds(self) -> float:
        """CPU seconds of training, earlier lives of the run included."""
        return self._before + time.process_time() - self._start

    def learn(self) -> None:
        """One step."""
        progress = self.step / self.plan.steps
        height = min(1.0, progress / 0.03) * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * height * self.task.rate(group["name"], progress)
        self.task.modules.train()
        with torch.autocast(self.task.device.type, torch.bfloat16):
            loss, watched = self.task.loss(self.pool, self.plan, self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.named.values(), self.plan.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(0.998, self.step / (self.step + 20))
        with torch.no_grad():
            for name, parameter in self.named.items():
                self.average[name].lerp_(parameter, 1 - keep)
        for name, value in {"loss": float(loss.detach()), **watched}.items():
            self._watched[name] = 0.98 * self._watched.get(name, value) + 0.02 * value

    def line(self) -> str:
        """Where the run stands."""
        watched = " ".join(f"{name} {value:.3f}" for name, value in self._watched.items())
        return f"{self.task.name}: step {self.step}/{self.plan.steps}, {self.seconds:.0f} CPU-s, {watched}"

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved > 180

    def averaged(self) -> _Averaged:
        """A context in which the modules have the averaged weights."""
        return _Averaged(self)

    def save(self, scores: Mapping[str, float]) -> None:
        """Write the checkpoint, whole or not at all."""
        content = {
            "step": self.step,
            "seconds": self.seconds,
            "drawn": self.pool.drawn,
            "modules": self.task.modules.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scores": dict(scores),
        }
        unfinished = self.folder / f".{CHECKPOINT}"
        torch.save(content, unfinished)
        unfinished.replace(self.folder / CHECKPOINT)
        self._saved = time.monotonic()

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        torch.manual_seed(self.plan.seed)
        if not (self.folder / CHECKPOINT).exists():
            return
        content: dict[str, Any] = torch.load(self.folder / CHECKPOINT, map_location="cpu", weights_only=True)
        self.task.modules.load_state_dict(content["modules"])
        self.optimizer.load_state_dict(content["optimizer"])
        for name, value in content["average"].items():
            self.average[name].copy_(value)
        self.step, self._before = content["step"], content["seconds"]
        self.task.resumed(self.step / self.plan.steps)
        self.pool.skip(content["drawn"])
        torch.manual_seed(self.plan.seed + self.step)


class _Averaged:
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._kept: dict[str, torch.Tensor] = {}

    def __enter__(self) -> None:
        self._run.task.modules.eval()
        with torch.no_grad():
            self._kept = {name: p.detach().clone() for name, p in self._run.named.items()}
            for name, parameter in self._run.named.items():
                parameter.copy_(self._run.average[name])

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for name, parameter in self._run.named.items():
                parameter.copy_(self._kept[name])


def _decay(name: str, parameter: nn.Parameter, decay: float) -> float:
    return decay if parameter.ndim > 1 and not any(word in name.lower() for word in _NO_DECAY) else 0.0
