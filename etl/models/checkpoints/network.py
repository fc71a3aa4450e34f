"""What the networks of transformers are made of: built without memory for their numbers, to check a checkpoint by."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.core_model_loading import revert_weight_conversion

from etl.models.checkpoints.keys import Shape

POSITION_IDS = r"(^|\.)position_ids$"  # counted, not learned: transformers reads past them everywhere


@dataclass(frozen=True)
class Parts:
    """The parameters of a network.

    Attributes:
        shapes: Of every parameter that weights must give, under the names that published weights have ("hub names").
        ties: Groups of names that stand for one and the same parameter.
        ignored: Patterns of keys that the network reads past.
    """

    shapes: dict[str, Shape]
    ties: tuple[frozenset[str], ...]
    ignored: tuple[str, ...]


def parts(build: Callable[[], Any]) -> Parts:
    """The parameters of a network of transformers.

    Args:
        build: Makes the network; called where tensors take no memory.
    """
    with torch.device("meta"):
        network = build()
    # Names inside transformers change between its versions; those it saves, and reads, do not.
    state = revert_weight_conversion(network, network.state_dict(keep_vars=True))
    # Parameters of a backbone that nothing uses; transformers asks no weights for them.
    unused = tuple(network._keys_to_ignore_on_load_missing or ())
    groups: dict[int, set[str]] = {}
    for name, tensor in state.items():
        groups.setdefault(id(tensor), set()).add(name)
    return Parts(
        {name: tuple(t.shape) for name, t in state.items() if not any(re.search(pattern, name) for pattern in unused)},
        tuple(frozenset(names) for names in groups.values() if len(names) > 1),
        (POSITION_IDS, *(network._keys_to_ignore_on_load_unexpected or ())),
    )


def own_shapes(build: Callable[[], nn.Module]) -> dict[str, Shape]:
    """Names and shapes of the parameters of a network of ours, built where tensors take no memory."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
