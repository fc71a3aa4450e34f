"""What the taggers share: a Swin of transformers that sees the picture, and a head of our own that names it.

A folder holds ``config.json`` (``model_type``, ``swin``: arguments of SwinConfig, ``head``: arguments of the head),
``model.safetensors`` (the Swin's keys under transformers' hub names below ``visual_encoder.``, which every version of
transformers can read; the head's under upstream's), ``preprocessor_config.json`` and the lists of tags and thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import SwinConfig, SwinModel

from etl.errors import ConfigurationError
from etl.models.batches import model_batches, steady_size
from etl.models.folders import check_folder, check_keys
from etl.models.pixels import Preprocessor
from etl.models.reading import DTYPES

SWIN = "visual_encoder."
Weights = dict[str, torch.Tensor]
HeadType = Callable[..., nn.Module]  # of n_tags, vision_width and what ``head`` of config.json says


class SwinTagger:
    """A tagger ready for inference; a family names its head and where its tags and thresholds are.

    Attributes:
        tags: The tags, in the order of the scores.
        thresholds: float64 [tags].
    """

    family: ClassVar[str]
    head_type: ClassVar[HeadType]
    others: ClassVar[tuple[str, ...]] = ()  # beginnings of keys that belong to other uses of the same folder
    tags: list[str]
    thresholds: npt.NDArray[np.float64]

    def __init__(self, folder: Path, device: str, dtype: str, *, compiled: bool = False) -> None:
        """Read a folder of weights.

        Args:
            folder: The folder.
            device: ``cpu`` or ``cuda:N``.
            dtype: ``float32`` or ``bfloat16``.
            compiled: Whether Swin and head go through ``torch.compile`` when they are first used.

        Raises:
            ConfigurationError: The folder is wrong or not whole.
        """
        config = check_folder(folder, self.family)
        self.preprocessor = Preprocessor.read(folder, "height", "width")
        weights = read_weights(folder, without=self.others)
        n_tags = self._count(folder, config, weights)
        self._read_lists(folder, config, n_tags)
        swin, head = _networks(folder, config, self.head_type, n_tags, weights)
        self.swin: Any = swin.to(device, DTYPES[dtype]).eval()
        self.head: Any = place_head(head, device, DTYPES[dtype])
        if compiled:
            self.swin.compile()
            self.head.compile()
        self.device, self.dtype = device, dtype

    def _count(self, folder: Path, config: dict[str, Any], weights: Weights) -> int:
        """Tags the network answers for; raises ConfigurationError when its weights do not say."""
        raise NotImplementedError

    def _read_lists(self, folder: Path, config: dict[str, Any], n_tags: int) -> None:
        """Set ``tags`` and ``thresholds``; raises ConfigurationError when they do not fit the network."""
        raise NotImplementedError

    @torch.inference_mode()
    def scores(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Sigmoid scores [pictures, tags] of one model batch.

        In float32 on a CPU those of a picture are equal to the last bit in any batch.
        """
        size = steady_size(len(pictures), self.device, self.dtype)
        return np.concatenate(
            [self.scores_of(self.see(batch)) for batch, _ in model_batches(pictures, size, self.dtype)]
        )

    @torch.inference_mode()
    def see(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """What the Swin makes of pictures: their mean token, then the others: [pictures, 1 + tokens, width]."""
        seen = self.swin(self.preprocessor.square(pictures, self.device).to(DTYPES[self.dtype]))
        return torch.cat([seen.pooler_output[:, None], seen.last_hidden_state], dim=1)

    @torch.inference_mode()
    def scores_of(self, tokens: torch.Tensor) -> npt.NDArray[np.float32]:
        """Sigmoid scores [pictures, tags] of what ``see`` gave."""
        logits = self.head(tokens).float().cpu()
        # Row by row: a CPU's vectors end elsewhere in another row, and with them the last bit of a sigmoid changes.
        scores: npt.NDArray[np.float32] = torch.stack([torch.sigmoid(row) for row in logits]).numpy()
        return scores


def label_rows(folder: Path, weights: Weights, key: str) -> int:
    """Rows of the label embeddings; raises ConfigurationError when the weights have none."""
    if key not in weights or weights[key].dim() != 2:
        raise ConfigurationError(
            f"the weights in {folder} lack a matrix {key!r}", remedy="convert the whole checkpoint of the tagger"
        )
    return len(weights[key])


def place_head(head: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """Put a head on a device, its layers in ``dtype``; parameters of its own, the label embeddings, stay float32."""
    for layer in head.children():
        layer.to(dtype)
    return head.to(device).eval()


def read_weights(folder: Path, *, only: tuple[str, ...] = ("",), without: tuple[str, ...] = ()) -> Weights:
    """The tensors of ``model.safetensors`` whose keys begin with one of ``only`` and with none of ``without``.

    Raises:
        ConfigurationError: The file is missing or not whole.
    """
    try:
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith(only) and not key.startswith(without)]  # noqa: SIM118
            return {key: file.get_tensor(key) for key in keys}
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"the weights in {folder} cannot be read: {error}") from error


def _networks(
    folder: Path, config: dict[str, Any], head_type: HeadType, n_tags: int, weights: Weights
) -> tuple[Any, nn.Module]:
    vision = {key.removeprefix(SWIN): value for key, value in weights.items() if key.startswith(SWIN)}
    own = {key: value for key, value in weights.items() if not key.startswith(SWIN)}
    try:
        swin_config = SwinConfig(**config["swin"])
        head = head_type(n_tags=n_tags, vision_width=swin_config.hidden_size, **config["head"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{folder}/config.json: 'swin' and 'head' do not describe a tagger: {error}"
        ) from error
    reader: Any = SwinModel
    swin, info = reader.from_pretrained(
        None, config=swin_config, state_dict=vision, output_loading_info=True, ignore_mismatched_sizes=True
    )
    check_keys(folder, info)
    expected = head.state_dict()
    check_keys(
        folder,
        {
            "missing_keys": expected.keys() - own.keys(),
            "unexpected_keys": own.keys() - expected.keys(),
            "mismatched_keys": [k for k in own.keys() & expected.keys() if own[k].shape != expected[k].shape],
        },
    )
    head.load_state_dict(own)
    return swin, head
