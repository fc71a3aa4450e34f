"""The outline of every shape, as a signed distance: negative inside, in the units of its coordinates.

Coordinates are centred, and a shape reaches about 1 from its centre in some direction. Distances are exact where that
is simple; ``distance`` rescales them by their slope, so that one pixel beyond the edge reads as one pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
_THIRD = np.pi * 2 / 3


def _circle(x: Array, y: Array) -> Array:
    distance: Array = np.hypot(x, y) - 1
    return distance


def _square(x: Array, y: Array) -> Array:
    distance: Array = np.maximum(np.abs(x), np.abs(y)) - np.float32(0.85)
    return distance


def _triangle(x: Array, y: Array) -> Array:
    sides = [np.float32(np.sin(a)) * x - np.float32(np.cos(a)) * y for a in (0, _THIRD, 2 * _THIRD)]
    distance: Array = np.maximum.reduce(sides) - np.float32(0.55)
    return distance


def _cross(x: Array, y: Array) -> Array:
    wide, narrow = np.float32(1), np.float32(0.33)
    across = np.maximum(np.abs(x) - wide, np.abs(y) - narrow)
    down = np.maximum(np.abs(x) - narrow, np.abs(y) - wide)
    distance: Array = np.minimum(across, down)
    return distance


def _ring(x: Array, y: Array) -> Array:
    distance: Array = np.abs(np.hypot(x, y) - np.float32(0.74)) - np.float32(0.26)
    return distance


def _crescent(x: Array, y: Array) -> Array:
    bite = np.float32(0.82) - np.hypot(x - np.float32(0.52), y)
    distance: Array = np.maximum(np.hypot(x, y) - 1, bite)
    return distance


def _heart(x: Array, y: Array) -> Array:
    across, up = x * np.float32(1.2), np.float32(0.2) - y * np.float32(1.15)
    body = across * across + up * up - 1
    value: Array = body**3 - across * across * up**3
    return value


def _star(x: Array, y: Array) -> Array:
    """Five points: in the wedge between a tip and the next notch, the edge is one straight line."""
    turn = np.float32(2 * np.pi / 5)
    angle = np.abs(np.mod(np.arctan2(x, y) + turn / 2, turn) - turn / 2)
    radius = np.hypot(x, y)
    along, aside = radius * np.cos(angle), radius * np.sin(angle)
    tip, notch = (1.0, 0.0), (0.42 * np.cos(turn / 2), 0.42 * np.sin(turn / 2))
    edge = np.hypot(notch[0] - tip[0], notch[1] - tip[1])
    normal = (notch[1] - tip[1]) / edge, -(notch[0] - tip[0]) / edge
    distance: Array = (along - np.float32(tip[0])) * np.float32(normal[0]) + aside * np.float32(normal[1])
    return distance


OUTLINES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": _circle,
    "crescent": _crescent,
    "cross": _cross,
    "heart": _heart,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}


def distance(shape: str, x: Array, y: Array) -> npt.NDArray[np.float32]:
    """Distance to the outline of ``shape`` in samples of the grid: negative inside.

    Args:
        shape: Its name.
        x: Coordinates [height, width] of a grid of at least 2 x 2 samples, in the units of the shape.
        y: Likewise.
    """
    value = OUTLINES[shape](x, y).astype(np.float32)
    slope = np.hypot(*np.gradient(value))
    scaled: npt.NDArray[np.float32] = value / np.maximum(slope, np.float32(1e-3))
    return scaled
