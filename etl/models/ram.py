"""RAM, the tagger: transformers' Swin, and a head of two cross-attention-only layers that asks for every tag.

Names of the head's parameters are those of the upstream checkpoints; those of the Swin are transformers' hub names
below ``visual_encoder.``, which every version of transformers can read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import SwinConfig, SwinModel

from etl.errors import ConfigurationError
from etl.models.folders import check_folder, check_keys
from etl.models.pixels import Preprocessor
from etl.models.reading import DTYPES

TAG_LIST, THRESHOLDS = "tag_list.txt", "tag_list_threshold.txt"
SWIN = "visual_encoder."
EPS = 1e-12  # of BERT, whose layers the head is made of


class _Attention(nn.Module):
    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(source, width), nn.Linear(source, width)

    def forward(self, queries: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        parts = (self.query(queries), self.key(image), self.value(image))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class _Output(nn.Module):
    def __init__(self, given: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(given, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        normalised: torch.Tensor = self.LayerNorm(self.dense(hidden) + residual)
        return normalised


class _Layer(nn.Module):
    """Cross-attention from tag queries to the image and a feed-forward network, each with a normalised residual."""

    def __init__(self, width: int, source: int, heads: int, intermediate: int) -> None:
        super().__init__()
        attention = {"self": _Attention(width, source, heads), "output": _Output(width, width)}
        self.crossattention = nn.ModuleDict(attention)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, intermediate)})
        self.output = _Output(intermediate, width)

    def forward(self, queries: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        attended = self.crossattention["self"](queries, image)
        hidden = self.crossattention["output"](attended, queries)
        inner = functional.gelu(self.intermediate["dense"](hidden))
        result: torch.Tensor = self.output(inner, hidden)
        return result


class RamHead(nn.Module):
    """From image tokens to one logit per tag.

    Args:
        n_tags: Tags asked for.
        vision_width: Width of the image tokens.
        embed_width: Width of label embeddings and projected image tokens (512 upstream).
        hidden_size: Width of the queries (768 upstream).
        layers: Cross-attention layers.
        heads: Attention heads.
        intermediate_size: Width of the feed-forward networks.
    """

    def __init__(
        self,
        *,
        n_tags: int,
        vision_width: int,
        embed_width: int,
        hidden_size: int,
        layers: int,
        heads: int,
        intermediate_size: int,
    ) -> None:
        super().__init__()
        self.image_proj = nn.Linear(vision_width, embed_width)
        self.label_embed = nn.Parameter(torch.zeros(n_tags, embed_width))
        self.wordvec_proj = nn.Linear(embed_width, hidden_size)
        stack = [_Layer(hidden_size, embed_width, heads, intermediate_size) for _ in range(layers)]
        self.tagging_head = nn.ModuleDict({"encoder": nn.ModuleDict({"layer": nn.ModuleList(stack)})})
        self.fc = nn.Linear(hidden_size, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [batch, tags] of image tokens [batch, tokens, vision_width]."""
        image = self.image_proj(tokens)
        queries = functional.relu(self.wordvec_proj(self.label_embed)).expand(len(tokens), -1, -1)
        for layer in self.tagging_head["encoder"]["layer"]:  # type: ignore[index]
            queries = layer(queries, image)
        logits: torch.Tensor = self.fc(queries).squeeze(-1)
        return logits


class Tagger:
    """RAM ready for inference.

    Attributes:
        tags: The tags, in the order of the scores.
        thresholds: float64 [tags], from the list file.
    """

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Read a folder of weights.

        Raises:
            ConfigurationError: The folder is wrong or not whole.
        """
        config = check_folder(folder, "ram")
        self.preprocessor = Preprocessor.read(folder, "height", "width")
        self.tags = read_lines(folder, TAG_LIST)
        self.thresholds = _thresholds(folder, len(self.tags))
        weights = _read_weights(folder)
        swin, head = _networks(folder, config, len(self.tags), weights)
        self.swin: Any = swin.to(device, DTYPES[dtype]).eval()
        self.head = head.to(device, DTYPES[dtype]).eval()
        self.device, self.dtype = device, dtype

    @torch.inference_mode()
    def scores(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Sigmoid scores [pictures, tags] of one model batch."""
        seen = self.swin(self.preprocessor.square(pictures).to(self.device, DTYPES[self.dtype]))
        tokens = torch.cat([seen.pooler_output[:, None], seen.last_hidden_state], dim=1)
        scores: npt.NDArray[np.float32] = torch.sigmoid(self.head(tokens).float()).cpu().numpy()
        return scores


def read_lines(folder: Path, name: str) -> list[str]:
    """The lines of a list file, without empty ones; raises ConfigurationError when it is missing or has none."""
    try:
        lines = [line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the weights folder {folder} has no readable {name}: {error}") from error
    if not any(lines):
        raise ConfigurationError(f"{folder / name} is empty")
    return [line for line in lines if line]


def _thresholds(folder: Path, n_tags: int) -> npt.NDArray[np.float64]:
    try:
        values = np.asarray([float(line) for line in read_lines(folder, THRESHOLDS)], dtype=np.float64)
    except ValueError as error:
        raise ConfigurationError(f"{folder / THRESHOLDS}: {error}") from error
    if len(values) != n_tags:
        raise ConfigurationError(f"{folder}: {n_tags} tags in {TAG_LIST}, but {len(values)} lines in {THRESHOLDS}")
    return values


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"the weights in {folder} cannot be read: {error}") from error


def _networks(
    folder: Path, config: dict[str, Any], n_tags: int, weights: dict[str, torch.Tensor]
) -> tuple[Any, RamHead]:
    vision = {key.removeprefix(SWIN): value for key, value in weights.items() if key.startswith(SWIN)}
    own = {key: value for key, value in weights.items() if not key.startswith(SWIN)}
    try:
        swin_config = SwinConfig(**config["swin"])
        head = RamHead(n_tags=n_tags, vision_width=swin_config.hidden_size, **config["head"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{folder}/config.json: 'swin' and 'head' do not describe RAM: {error}") from error
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
