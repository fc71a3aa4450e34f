"""The tagger: RAM's architecture at a small size, on the 19 tags of the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from transformers import SwinConfig, SwinModel

from etl.models.ram import RamHead
from etl.shapes.networks import RAM, ram_preprocessor, save_ram
from etl.shapes.train.dense import DenseHead, dense_targets
from etl.shapes.train.initialise import xavier
from etl.shapes.train.loop import Plan, Task
from etl.shapes.train.pool import Pool, Sample, numbered_sample
from etl.shapes.world.words import COLOUR_NAMES, PLAIN, SHAPES, TAGS, TEXTURES

CELLS = 4
_HELD_OUT = 300


class Tagger(Task):
    """Swin, RAM's head, and the auxiliary layer."""

    name = "tagger"

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        config = SwinConfig(**RAM["swin"])
        swin = xavier(SwinModel(config))
        head = xavier(RamHead(n_tags=len(TAGS), vision_width=config.hidden_size, **RAM["head"]))
        with torch.no_grad():
            nn.init.orthogonal_(head.label_embed, gain=4.0)
            head.fc.bias.fill_(-1.0)
        self.modules = nn.ModuleDict({"swin": swin, "head": head, "dense": DenseHead(config.hidden_size, CELLS)})
        self.preprocessor = ram_preprocessor()
        side = config.image_size // config.patch_size // 2 ** (len(config.depths) - 1)
        self._grid = side, side

    def loss(self, pool: Pool, plan: Plan, step: int) -> tuple[torch.Tensor, Mapping[str, float]]:
        samples = pool.take(plan.batch)
        seen = self.modules["swin"](self._pixels(samples))
        logits = self._logits(seen)
        tags = functional.binary_cross_entropy_with_logits(logits.float(), _wanted(samples).to(self.device))
        classes, weights = dense_targets(samples, self._grid[0] * CELLS, self._grid[1] * CELLS)
        classes, weights = classes.to(self.device), weights.to(self.device)
        dense, right = self.modules["dense"](seen.last_hidden_state, self._grid, classes, weights)
        return 4 * tags + dense, {"tags": float(tags.detach()), "dense": float(dense.detach()), "right": float(right)}

    @torch.inference_mode()
    def score(self) -> dict[str, float]:
        said, wanted = [], []
        for start in range(0, _HELD_OUT, 50):
            samples = [numbered_sample("validation", n) for n in range(start, start + 50)]
            said.append((self._logits(self.modules["swin"](self._pixels(samples))) > 0).cpu())
            wanted.append(_wanted(samples) > 0)
        yes, truth = torch.cat(said).numpy(), torch.cat(wanted).numpy()
        groups = {"f1": TAGS, "shapes": SHAPES, "colours": COLOUR_NAMES, "textures": TEXTURES[1:]}
        columns = {group: [TAGS.index(name) for name in names] for group, names in groups.items()}
        return {group: _f1(yes[:, places], truth[:, places]) for group, places in columns.items()}

    def save(self, folder: Path) -> None:
        save_ram(self.modules["swin"], self.modules["head"], folder)

    def _pixels(self, samples: Sequence[Sample]) -> torch.Tensor:
        return self.preprocessor.square([sample.picture for sample in samples]).to(self.device)

    def _logits(self, seen: object) -> torch.Tensor:
        tokens = torch.cat([seen.pooler_output[:, None], seen.last_hidden_state], dim=1)  # type: ignore[attr-defined]
        logits: torch.Tensor = self.modules["head"](tokens)
        return logits


def _wanted(samples: Sequence[Sample]) -> torch.Tensor:
    wanted = torch.zeros(len(samples), len(TAGS))
    for row, sample in enumerate(samples):
        for shape, colour, texture in sample.kinds:
            for name in (SHAPES[shape], COLOUR_NAMES[colour], TEXTURES[texture]):
                if name != PLAIN:
                    wanted[row, TAGS.index(name)] = 1
    return wanted


def _f1(yes: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    said = float(yes.sum()) + float(truth.sum())
    return round(2 * float((yes & truth).sum()) / max(1.0, said), 4)
