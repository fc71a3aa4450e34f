"""The auxiliary loss that makes small networks learn at all: every token says what its own pixels show.

Without it the tagger stays for ever at the score of answering yes to everything; the layer is dropped after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from etl.shapes.train.pool import Sample
from etl.shapes.world.words import COLOUR_NAMES, SHAPES, TEXTURES

_KINDS = ((len(SHAPES) + 1, 3.0), (len(COLOUR_NAMES) + 1, 1.0), (len(TEXTURES) + 1, 0.5))  # classes, weight


class DenseHead(nn.Module):
    """From tokens to classes of sub-cells.

    Args:
        width: Width of the tokens.
        cells: Sub-cells per side of one token.
    """

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.linear = nn.Linear(width, cells * cells * sum(classes for classes, _ in _KINDS))

    def forward(
        self, tokens: torch.Tensor, grid: tuple[int, int], targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss, and the share of sub-cells on shapes whose shape is right.

        Args:
            tokens: [batch, rows * columns, width].
            grid: Rows and columns of the tokens.
            targets: int64 [batch, 3, rows * cells, columns * cells]: class of shape, colour, texture; 0 is none.
            weights: float [batch, rows * cells, columns * cells].
        """
        rows, columns = grid
        said = self.linear(tokens).float().view(len(tokens), rows, columns, self.cells, self.cells, -1)
        said = said.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, rows * self.cells, columns * self.cells)
        total, start = said.new_zeros(()), 0
        for kind, (classes, weight) in enumerate(_KINDS):
            losses = functional.cross_entropy(said[:, start : start + classes], targets[:, kind], reduction="none")
            total = total + weight * (losses * weights).sum() / weights.sum()
            start += classes
        with torch.no_grad():
            on = targets[:, 0] > 0
            right = (said[:, : _KINDS[0][0]].argmax(dim=1) == targets[:, 0])[on].float().mean()
        return total, right


def dense_targets(samples: Sequence[Sample], rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes and weights of ``rows`` x ``columns`` sub-cells over whole pictures; small instances count as large ones.

    Returns:
        int64 [samples, 3, rows, columns] and float32 [samples, rows, columns].
    """
    classes = np.zeros((len(samples), 3, rows, columns), np.int64)
    weights = np.zeros((len(samples), rows, columns), np.float32)
    for number, sample in enumerate(samples):
        owners = _at_centres(sample.owners, rows, columns)
        lookup = np.concatenate([np.zeros((1, 3), np.int64), sample.kinds + 1])
        classes[number] = lookup[owners].transpose(2, 0, 1)
        areas = np.maximum(np.bincount(owners.ravel(), minlength=len(lookup)), 1)
        weights[number] = (1 / np.sqrt(areas))[owners]
    return torch.from_numpy(classes), torch.from_numpy(weights)


def _at_centres(owners: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.uint8]:
    height, width = owners.shape
    down = ((np.arange(rows) + 0.5) * height / rows).astype(int)
    across = ((np.arange(columns) + 0.5) * width / columns).astype(int)
    centres: npt.NDArray[np.uint8] = owners[down[:, None], across[None]]
    return centres
