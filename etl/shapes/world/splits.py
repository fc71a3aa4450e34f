"""Numbered scenes of three splits that never share a seed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from etl.shapes.world.scene import Scene, make_scene

Split = Literal["train", "validation", "test"]
_NUMBERS = {"train": 0, "validation": 1, "test": 2}


def scene_random(split: Split, number: int, seed: int = 0) -> np.random.Generator:
    """The generator of one numbered scene; the split is part of its seed."""
    return np.random.default_rng([_NUMBERS[split], seed, number])


def numbered_scene(split: Split, number: int, seed: int = 0, **choices: Any) -> Scene:
    """The scene of a number; ``choices`` are those of ``make_scene``."""
    return make_scene(scene_random(split, number, seed), **choices)
