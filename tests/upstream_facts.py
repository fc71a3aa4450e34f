"""Key lists of upstream's checkpoints: names and shapes, kept as JSON with the revision that they come from."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import torch

FACTS = Path(__file__).parent / "models" / "checkpoints" / "facts"


def fact(name: str) -> dict[str, Any]:
    """A fact by the name of its checkpoint, without ``.pth``."""
    content: dict[str, Any] = json.loads((FACTS / f"{name}.json").read_text())
    return content


def upstream_state(name: str) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint, in the right shapes and without numbers."""
    state = {}
    for template, numbers, shape in fact(name)["keys"]:
        for values in itertools.product(*[_numbers(part) for part in numbers.split()]):
            parts = iter(values)
            key = ".".join(str(next(parts)) if part == "*" else part for part in template.split("."))
            state[key] = torch.empty(shape, device="meta")
    return state


def _numbers(text: str) -> list[int]:
    """``"0-2,5"`` as 0, 1, 2, 5."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
