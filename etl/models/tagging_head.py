"""The head that RAM, RAM++ and Tag2Text share: cross-attention-only layers in which every tag asks the picture.

Source: ``tagging_head`` of ``ram/models/bert.py`` in xinyu1205/recognize-anything (a BERT whose self-attention is
removed, as in Query2Label, arXiv 2107.10834). Names of parameters are those of the upstream checkpoints.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

EPS = 1e-12  # of BERT, whose layers the head is made of


class _Attention(nn.Module):
    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(source, width), nn.Linear(source, width)

    def forward(self, queries: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        # Queries that all pictures share are projected once.
        parts = (self.query(queries).expand(len(image), -1, -1), self.key(image), self.value(image))
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


class TaggingHead(nn.Module):
    """The layers, one after the other.

    Args:
        width: Width of the queries (768 upstream).
        source: Width of what they attend to: 512 for RAM and RAM++, the Swin's for Tag2Text.
        layers: Cross-attention layers (2 upstream).
        heads: Attention heads (4 upstream).
        intermediate: Width of the feed-forward networks (3072 upstream).
    """

    def __init__(self, width: int, source: int, layers: int, heads: int, intermediate: int) -> None:
        super().__init__()
        stack = nn.ModuleList([_Layer(width, source, heads, intermediate) for _ in range(layers)])
        self.encoder = nn.ModuleDict({"layer": stack})

    def forward(self, queries: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """What queries have become after attending to images: [batch, tags, width].

        Args:
            queries: [batch, tags, width], or [1, tags, width] where all images are asked the same.
            image: [batch, tokens, source].
        """
        for layer in self.encoder["layer"]:  # type: ignore[attr-defined]
            queries = layer(queries, image)
        return queries
