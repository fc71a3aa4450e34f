"""Weights a small network can start from: the usual spread of 0.02 suits width 768 and is nearly dead at width 64."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

_KEPT = ("sampling_offsets", "attention_weights", "lm_head")  # geometry, and what is tied to an embedding
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def xavier(network: ModuleT) -> ModuleT:
    """Draw every linear layer by Xavier's rule, and convolutions by torch's own default."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith(_KEPT):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    return network
