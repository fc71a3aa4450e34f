"""From PIL pictures to what a network reads: the same on every machine, without torchvision.

PIL resizes, several pictures at once; a device is given bytes, a fourth of what floats would take, and normalises them
itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
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
MOST_THREADS = 16  # that resize; PIL works in parallel, as it lets go of Python meanwhile


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
        return self.alike([picture], width, height)[0]

    def square(self, pictures: Sequence[Image.Image], device: str = "cpu") -> torch.Tensor:
        """Pictures stretched to ``height`` x ``width`` of the size: float32 [n, 3, height, width] on ``device``."""
        return self.alike(pictures, self.size["width"], self.size["height"], device)

    def alike(self, pictures: Sequence[Image.Image], width: int, height: int, device: str = "cpu") -> torch.Tensor:
        """Pictures resized to ``width`` x ``height``: float32 [n, 3, height, width] on ``device``."""
        return self._normalised(torch.stack(self._resized(pictures, [(width, height)] * len(pictures))).to(device))

    def padded(
        self, pictures: Sequence[Image.Image], sizes: Sequence[tuple[int, int]], side: int, device: str = "cpu"
    ) -> torch.Tensor:
        """Pictures resized to a width and height each, top left in squares that are zero elsewhere.

        Returns:
            float32 [n, 3, side, side] on ``device``.
        """
        squares = torch.zeros(len(pictures), side, side, 3, dtype=torch.uint8)
        for square, resized in zip(squares, self._resized(pictures, sizes), strict=True):
            square[: resized.shape[0], : resized.shape[1]] = resized
        pixels = self._normalised(squares.to(device))
        for own, (width, height) in zip(pixels, sizes, strict=True):  # zero after normalising, as upstream
            own[:, height:] = 0
            own[:, :, width:] = 0
        return pixels

    def _resized(self, pictures: Sequence[Image.Image], sizes: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """Bytes [height, width, 3] of each picture at its size."""
        if len(pictures) < 2:
            return [self._bytes(picture, size) for picture, size in zip(pictures, sizes, strict=True)]
        return list(_threads().map(self._bytes, pictures, sizes))

    def _bytes(self, picture: Image.Image, size: tuple[int, int]) -> torch.Tensor:
        resized = picture if picture.size == size else picture.resize(size, self.resample)
        return torch.from_numpy(np.array(resized))

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bytes [n, height, width, 3] as float32 [n, 3, height, width] on their device."""
        values = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        # Divided by a tensor: a GPU would multiply by the rounded inverse of a number.
        mean, std = (torch.tensor(one, device=pixels.device).view(3, 1, 1) for one in (self.mean, self.std))
        return values.div_(torch.tensor(255.0, device=pixels.device)).sub_(mean).div_(std)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="resize")


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
