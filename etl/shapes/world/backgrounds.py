"""Backgrounds that look somewhat photographic: soft light, faint colour, clutter; never as colourful as a shape."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Canvas = npt.NDArray[np.float32]


def background(random: np.random.Generator, width: int, height: int, *, gray: bool) -> Canvas:
    """A background, float32 [height, width, 3], values 0..255; without any colour when ``gray``."""
    base = random.uniform(70, 190)
    canvas = base + _noise(random, width, height, cells=int(random.integers(2, 6))) * random.uniform(10, 55)
    if random.random() < 0.5:
        canvas = canvas + _gradient(random, width, height) * random.uniform(20, 70)
    if random.random() < 0.6:
        canvas = canvas + _noise(random, width, height, cells=int(random.integers(12, 40))) * random.uniform(2, 14)
    tint = np.zeros(3, np.float32) if gray else random.normal(0, 10, 3).astype(np.float32)
    coloured = canvas[..., None] + tint
    if not gray:
        faint = [_noise(random, width, height, cells=3) * random.uniform(0, 12) for _ in range(3)]
        coloured = coloured + np.stack(faint, axis=-1)
    if random.random() < 0.3:
        coloured = _clutter(random, coloured, gray)
    drawn: Canvas = np.clip(coloured, 0, 255).astype(np.float32)
    return drawn


def _noise(random: np.random.Generator, width: int, height: int, cells: int) -> Canvas:
    """Smooth noise of spread 1: a small random field, enlarged."""
    field = Image.fromarray(random.normal(0, 1, (cells, cells)).astype(np.float32), mode="F")
    return np.asarray(field.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _gradient(random: np.random.Generator, width: int, height: int) -> Canvas:
    turn = random.uniform(0, 2 * np.pi)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    light: Canvas = x[None] * np.float32(np.cos(turn)) + y[:, None] * np.float32(np.sin(turn))
    return light


def _clutter(random: np.random.Generator, canvas: Canvas, gray: bool) -> Canvas:
    """Faint straight bands: horizons, walls, wires."""
    height, width = canvas.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(int(random.integers(1, 4))):
        turn, place = random.uniform(0, np.pi), random.uniform(-0.4, 0.4) * max(width, height)
        across = (columns - width / 2) * np.cos(turn) + (rows - height / 2) * np.sin(turn) - place
        band = np.clip(random.uniform(1, 9) - np.abs(across) + 0.5, 0, 1).astype(np.float32)
        shade = random.normal(0, 30) + (0 if gray else random.normal(0, 8, 3))
        canvas = canvas + band[..., None] * np.asarray(shade, np.float32)
    return canvas
