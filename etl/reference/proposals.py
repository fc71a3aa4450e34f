"""Which of its proposals GroundingDINO goes on with, seen from outside and, for a comparison, dictated.

The network scores every feature cell and keeps the best, in their order: a choice that any rounding can tip, and after
which boxes have little in common. Two engines are compared in what leads to the choice, and in what follows from one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


class Choice:
    """The choice of one call of the network.

    Attributes:
        scores: float32 [cells], the best score of each feature cell for any token of the prompt.
        chosen: int64 [queries], the cells that the network would keep by itself, the best first.
        dictated: Cells to be kept instead; None for those that it would keep.
    """

    def __init__(self, queries: int, dictated: npt.NDArray[np.int64] | None) -> None:
        self.queries, self.dictated = queries, dictated
        self.scores = np.zeros(0, np.float32)
        self.chosen = np.zeros(0, np.int64)
        self._seen = False

    def hook(self, _module: Any, _given: Any, output: torch.Tensor) -> torch.Tensor | None:
        """Look at the scores of the cells, [1, cells, tokens]; the first call is theirs, the next that of the kept."""
        import torch

        if self._seen:
            return None
        self._seen = True
        best = output[0].max(-1)[0]
        self.scores = best.numpy()
        self.chosen = torch.topk(best, self.queries)[1].numpy()
        if self.dictated is None or np.array_equal(self.chosen, self.dictated):
            return None
        other = output.clone()
        # Above all others, and each above the next: sums of whole numbers, which float32 tells apart.
        places = torch.arange(self.queries, 0, -1, dtype=output.dtype)
        other[0, torch.from_numpy(self.dictated)] = (np.ceil(float(best.max())) + places)[:, None]
        return other


@contextmanager
def choosing(network: Any, dictated: npt.NDArray[np.int64] | None) -> Iterator[Choice]:
    """See one call of transformers' network choose, or dictate what it chooses.

    Args:
        network: GroundingDinoForObjectDetection.
        dictated: int64 [queries], the cells that it is to keep, in their order; None to let it choose.
    """
    choice = Choice(int(network.config.num_queries), dictated)
    handle = network.model.encoder_output_class_embed.register_forward_hook(choice.hook)
    try:
        yield choice
    finally:
        handle.remove()
