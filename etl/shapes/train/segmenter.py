"""The segmenter: SAM's architecture at a small size, one mask per box prompt."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import SamConfig, SamModel

from etl.models.pixels import longest_edge_shape
from etl.models.sam import Segmenter as Loaded
from etl.shapes.networks import SEGMENTER, SEGMENTER_SIDE, sam_preprocessor, save_sam
from etl.shapes.train.initialise import xavier
from etl.shapes.train.loop import Plan, Task
from etl.shapes.train.pool import Pool, Sample, numbered_sample

BOXES = 6  # prompts per picture; its instances are asked for again, each time with another jitter
LOW = SEGMENTER_SIDE // 2  # side of the masks the network draws
JITTER = 0.05  # of a box's sides: the detector's boxes are not exact either
_HELD_OUT = 150


class Segmenter(Task):
    """SAM with box prompts, asked for one mask."""

    name = "segmenter"

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        network = xavier(SamModel(SamConfig(**SEGMENTER)))
        with torch.no_grad():
            place = network.shared_image_embedding.positional_embedding
            nn.init.normal_(place, std=1.0)  # drawn with half the width, neighbouring places look unrelated
            place.requires_grad_(False)
            for name, parameter in network.named_parameters():
                if name.endswith(("point_embed.weight", "iou_token.weight", "mask_tokens.weight")) or "embed.0" in name:
                    nn.init.normal_(parameter, std=0.5)
            nn.init.normal_(network.prompt_encoder.no_mask_embed.weight, std=0.5)
        network.tie_weights()
        self.modules = nn.ModuleDict({"network": network})
        self.preprocessor = sam_preprocessor()
        self._random = np.random.default_rng([5, seed])

    def loss(self, pool: Pool, plan: Plan, step: int) -> tuple[torch.Tensor, Mapping[str, float]]:
        samples: list[Sample] = []
        while len(samples) < plan.batch:
            samples += [sample for sample in pool.take(plan.batch - len(samples)) if len(sample.kinds)]
        prepared = [self._prepare(sample) for sample in samples]
        pixels, boxes, masks = (torch.stack(part).to(self.device) for part in zip(*prepared, strict=True))
        output = self.modules["network"](pixel_values=pixels, input_boxes=boxes, multimask_output=False)
        logits, ious = output.pred_masks[:, :, 0].float(), output.iou_scores[:, :, 0].float()
        near = _grown(boxes)
        wrong = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        inside = (wrong * near).sum((2, 3)) / near.sum((2, 3))
        outside = (wrong * (1 - near)).sum((2, 3)) / (1 - near).sum((2, 3)).clamp(min=1)
        said = torch.sigmoid(logits)
        dice = 1 - (2 * (said * masks).sum((2, 3)) + 1) / ((said + masks).sum((2, 3)) + 1)
        with torch.no_grad():
            yes, truth = logits > 0, masks > 0.5
            iou = (yes & truth).sum((2, 3)) / (yes | truth).sum((2, 3)).clamp(min=1)
        loss = (2 * (inside + 0.1 * outside) + 2 * dice).mean() + functional.mse_loss(ious, iou)
        return loss, {"iou": float(iou.mean()), "dice": float(dice.detach().mean())}

    def score(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            self.save(Path(name))
            loaded = Loaded(Path(name), "cpu", "float32")
        exact, moved, small = [], [], []
        random = np.random.default_rng(7)
        for number in range(_HELD_OUT):
            sample = numbered_sample("validation", number)
            if not len(sample.kinds):
                continue
            found = self._ious(loaded, sample, sample.boxes)
            exact += found
            moved += self._ious(loaded, sample, _jittered(sample.boxes, sample.pixels.shape, random))
            sides = (sample.boxes[:, 2:] - sample.boxes[:, :2]).max(axis=1)
            small += [iou for iou, side in zip(found, sides, strict=True) if side < 36]
        return {name: round(float(np.mean(v)), 4) for name, v in (("iou", exact), ("jitter", moved), ("small", small))}

    def save(self, folder: Path) -> None:
        save_sam(self.modules["network"], folder)

    def _ious(self, loaded: Loaded, sample: Sample, boxes: npt.NDArray[np.float32]) -> list[float]:
        masks = loaded.segment([sample.picture], [boxes], 1)[0].masks()
        ious = []
        for number, mask in enumerate(masks, start=1):
            truth = sample.owners == number
            ious.append(float((mask & truth).sum()) / max(1.0, float((mask | truth).sum())))
        return ious

    def _prepare(self, sample: Sample) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pixels [3, side, side], boxes [BOXES, 4] in network pixels, soft masks [BOXES, LOW, LOW]."""
        height, width = sample.owners.shape
        across, down = longest_edge_shape(width, height, SEGMENTER_SIDE)
        pad = (0, SEGMENTER_SIDE - across, 0, SEGMENTER_SIDE - down)
        pixels = functional.pad(self.preprocessor.tensor(sample.picture, across, down), pad)
        chosen = np.resize(self._random.permutation(len(sample.kinds)), BOXES)
        boxes = _jittered(sample.boxes[chosen], sample.owners.shape, self._random)
        scale = np.asarray([across / width, down / height] * 2, np.float32)
        masks = torch.stack([_soft(sample.owners == number + 1, across, down) for number in chosen])
        small = functional.avg_pool2d(functional.pad(masks, pad)[None], SEGMENTER_SIDE // LOW)[0]
        return pixels, torch.from_numpy(boxes * scale), small


def _jittered(
    boxes: npt.NDArray[np.float32], shape: Sequence[int], random: np.random.Generator
) -> npt.NDArray[np.float32]:
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + random.normal(0, JITTER, boxes.shape) * sides
    limits = np.asarray([shape[1], shape[0]] * 2)
    return np.clip(moved, 0, limits).astype(np.float32)


def _soft(mask: npt.NDArray[np.bool_], width: int, height: int) -> torch.Tensor:
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(resized, np.float32) / 255)


def _grown(boxes: torch.Tensor) -> torch.Tensor:
    """1 inside a box grown by 15 % on every side, else 0: [batch, boxes, LOW, LOW]."""
    scaled = boxes * (LOW / SEGMENTER_SIDE)
    more = 0.15 * (scaled[..., 2:] - scaled[..., :2])
    low, high = scaled[..., :2] - more - 1, scaled[..., 2:] + more + 1
    place = torch.arange(LOW, device=boxes.device) + 0.5
    x = (place >= low[..., :1]) & (place <= high[..., :1])
    y = (place >= low[..., 1:]) & (place <= high[..., 1:])
    return (y[..., :, None] & x[..., None, :]).float()
