"""From a PIL picture to what a network reads, in PIL and numpy: the same on every machine, without torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from etl.errors import ConfigurationError
from etl.models.folders import read_json

# What upstream's networks were trained with: mean and spread per channel of values 0..1, and PIL's interpolations.
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SAM_PIXELS = {
    "image_mean": [123.675 / 255, 116.28 / 255, 103.53 / 255],
    "image_std": [58.395 / 255, 57.12 / 255, 57.375 / 255],
}
CLIP_PIXELS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
BILINEAR, BICUBIC = 2, 3


@dataclass(frozen=True)
class Preprocessor:
    """What ``preprocessor_config.json`` says.

    Attributes:
        size: Named sides in pixels: ``height``/``width``, ``longest_edge`` and ``shortest_edge``.
        mean: Per channel, of values 0..1.
        std: Per channel, of values 0..1.
        resample: PIL's number of the interpolation.
    """

    size: dict[str, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: Image.Resampling

    @classmethod
    def read(cls, folder: Path, *sides: str) -> Preprocessor:
        """The preprocessor of a folder of weights; raises ConfigurationError when one of ``sides`` is not given."""
        content = read_json(folder, "preprocessor_config.json")
        size = content.get("size")
        if not isinstance(size, dict) or not all(isinstance(size.get(side), int) for side in sides):
            raise ConfigurationError(f"{folder}/preprocessor_config.json: size needs {sides}, got {size!r}")
        try:
            mean, std = (tuple(float(value) for value in content[key]) for key in ("image_mean", "image_std"))
            resample = Image.Resampling(content["resample"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{folder}/preprocessor_config.json: image_mean, image_std or resample is missing or wrong: {error}"
            ) from error
        if len(mean) != 3 or len(std) != 3:
            raise ConfigurationError(f"{folder}/preprocessor_config.json: expected three channels, got {mean}, {std}")
        return cls(size, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), resample)

    def tensor(self, picture: Image.Image, width: int, height: int) -> torch.Tensor:
        """A picture resized to ``width`` x ``height`` and normalised: float32 [3, height, width]."""
        resized = picture if picture.size == (width, height) else picture.resize((width, height), self.resample)
        values = torch.from_numpy(np.array(resized, dtype=np.float32)) / 255
        return ((values - torch.tensor(self.mean)) / torch.tensor(self.std)).permute(2, 0, 1).contiguous()

    def square(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Pictures stretched to ``height`` x ``width`` of the size: float32 [n, 3, height, width]."""
        return torch.stack([self.tensor(picture, self.size["width"], self.size["height"]) for picture in pictures])


def shortest_edge_shape(width: int, height: int, shortest: int, longest: int) -> tuple[int, int]:
    """Width and height after resizing the shorter side to ``shortest`` unless the longer would pass ``longest``.

    The rounding is that of GroundingDINO's own code (``get_size_with_aspect_ratio`` of datasets/transforms.py, revision
    856dde2): the shorter side is rounded before the longer one follows from it. transformers' image processor takes the
    longer one from the unrounded value, and is up to two pixels off for two of five picture sizes.

    >>> shortest_edge_shape(640, 480, 800, 1333), shortest_edge_shape(2000, 500, 800, 1333)
    ((1066, 800), (1332, 333))
    """
    low, high = min(width, height), max(width, height)
    side = shortest if high / low * shortest <= longest else max(1, round(longest * low / high))
    other = int(side * high / low)
    return (side, other) if width <= height else (other, side)


def longest_edge_shape(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height after resizing the longer side to ``longest``, rounded half up as SAM does.

    >>> longest_edge_shape(640, 480, 1024), longest_edge_shape(3, 1000, 160)
    ((1024, 768), (1, 160))
    """
    scale = longest / max(width, height)
    return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
