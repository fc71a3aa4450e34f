"""The weights of upstream's networks: read from the one ``.pth`` of a folder, or random ones written there.

A folder may hold ``sizes.json``: a network of other sizes than upstream's own, such as the small ones of tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

State = dict[str, torch.Tensor]
Build = Callable[[dict[str, Any], State | None], Any]  # from sizes and, where it tells them, a state
RANDOM = "random.pth"
# Factors of random ones: else probabilities would be 0 and 1, or all the same, and hide how far engines are apart.
FACTORS = {
    "transformer.decoder.norm.weight": -0.04,
    "transformer.decoder.norm.bias": 0.0,
    "fc.weight": 5.0,
    "fc.W": 30.0,
}
OLD_NAMES = (("vision_multi.", "tagging_head."),)  # of RAM's head: upstream's loader renames it too


def network_of(folder: Path, device: str, seed: int | None, build: Build) -> Any:
    """The network of a folder, ready for inference.

    Args:
        folder: Upstream's files.
        device: ``cpu`` or ``cuda:N``.
        seed: Of random weights, which are written into the folder; None to read those that it has.
        build: Makes the network from sizes and, where it gives the sizes, the state.
    """
    sizes = read_sizes(folder)
    if seed is not None:
        network = shaken(build(sizes, None), seed)
        torch.save(network.state_dict(), folder / RANDOM)
    else:
        (checkpoint,) = folder.glob("*.pth")
        state = read_state(checkpoint)
        network = load(build(sizes, state), state)
    return network.to(device).eval()


def read_sizes(folder: Path) -> dict[str, Any]:
    """What ``sizes.json`` says; nothing for a network of upstream's own sizes."""
    path = folder / "sizes.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def read_state(path: Path) -> State:
    """The tensors of a checkpoint; no code that it may carry is run."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = {name.removeprefix("module."): tensor for name, tensor in content.get("model", content).items()}
    for old, new in OLD_NAMES:
        state = {new + name.removeprefix(old) if name.startswith(old) else name: one for name, one in state.items()}
    return state


def load(network: Any, state: State) -> Any:
    """The network with a checkpoint's tensors; it must have every one that the network learns."""
    learned = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    missing = [key for key in network.load_state_dict(state, strict=False).missing_keys if key in learned]
    if missing:
        raise ValueError(f"the checkpoint lacks {len(missing)} tensors that upstream needs: {', '.join(missing[:5])}")
    return network


def shaken(network: Any, seed: int) -> Any:
    """The network with its parameters random: zeros and ones of its initialisation would hide differences.

    A number alone, such as RAM++'s temperature, stays what it is: near 0 it would switch off what it belongs to.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            if parameter.dim() == 0:
                continue
            noise = torch.randn(parameter.shape, generator=random)
            if parameter.dim() > 1:
                parameter.copy_(noise / max(1.0, parameter[0].numel()) ** 0.5)
            else:
                parameter.copy_(noise * 0.1 + (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0))
            parameter.mul_(FACTORS.get(name, 1.0))
    return network
