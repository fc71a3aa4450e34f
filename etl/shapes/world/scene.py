"""One scene: its pixels, and the truth about every instance in it.

Truth is about what can be seen: box and mask are of the visible part, and a placement that would hide too much of an
earlier instance, or lie in nearly the same box, is not made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from etl.shapes.world.backgrounds import background
from etl.shapes.world.outlines import distance
from etl.shapes.world.words import COLOURS, GRAY, PLAIN, SHAPES, STRIPED, TEXTURES, phrase, sentence

SIZES = (
    (128, 128), (160, 128), (128, 160), (160, 160), (176, 144), (144, 176),
    (192, 144), (144, 192), (192, 160), (160, 192), (192, 128), (128, 192),
)  # fmt: skip
SMALLEST = 24  # pixels; and no less than an eighth of the longer side, for networks see the picture smaller
VISIBLE = 0.7  # of an instance's own pixels, at least
TOO_CLOSE = 0.45  # IoU of boxes: the pipeline takes more than 0.5 for one object
_TRIES = 12
_DARK = 0.42  # brightness of stripes and dots

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Instance:
    """One object: what it is, and which pixels show it (bool [height, width])."""

    shape: str
    colour: str
    texture: str
    mask: Mask

    @property
    def phrase(self) -> str:
        """What it is called, such as ``striped red circle``."""
        return phrase(self.shape, self.colour, self.texture)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Edges of the visible part, xyxy in pixels; x2 and y2 lie behind the last pixel."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class Scene:
    """Pixels (uint8 [height, width, 3]) and instances, of which later ones lie over earlier ones."""

    pixels: Pixels
    instances: tuple[Instance, ...]

    @property
    def tags(self) -> list[str]:
        """Shapes, colours and named textures that can be seen, sorted."""
        found = {word for one in self.instances for word in (one.shape, one.colour, one.texture)}
        return sorted(found - {PLAIN})

    @property
    def sentence(self) -> str:
        """What the whole picture is called."""
        return sentence([(one.shape, one.colour) for one in self.instances])


@dataclass(frozen=True)
class _Placed:
    shape: str
    texture: str
    colour: str
    rgb: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]  # of every pixel of the scene to the outline
    dark: npt.NDArray[np.float32]  # 0 to 1: where the texture darkens


def make_scene(
    random: np.random.Generator,
    *,
    size: tuple[int, int] | None = None,
    count: int | None = None,
    extent: tuple[float, float] | None = None,
    gray: bool | None = None,
) -> Scene:
    """A scene drawn from ``random``; the same generator state gives the same scene.

    Args:
        random: Where every choice comes from.
        size: Width and height in pixels; else one of ``SIZES``.
        count: Instances wanted, 0 to 8; fewer when no more fit. Else 1 to 8, and none in one of fifty.
        extent: Smallest and largest extent in pixels; else ``SMALLEST`` to half the longer side.
        gray: Whether the picture has no colours; else one of twenty has none.
    """
    width, height = size or SIZES[random.integers(len(SIZES))]
    if count is None:
        count = 0 if random.random() < 0.02 else int(random.integers(1, 9))
    low, high = extent or (max(SMALLEST, max(width, height) / 8), max(width, height) / 2)
    colourless = random.random() < 0.05  # drawn in any case: the choices move nothing else
    gray = colourless if gray is None else gray
    canvas = background(random, width, height, gray=gray)
    placed = _place(random, width, height, count, (low, high), gray)
    for one in placed:
        alpha = np.clip(np.float32(0.5) - one.distance, 0, 1)[..., None]
        colour = one.rgb * (1 - one.dark[..., None] * np.float32(1 - _DARK))
        canvas = canvas * (1 - alpha) + colour * alpha
    noise = random.normal(0, random.uniform(1, 9), (height, width, 1 if gray else 3)).astype(np.float32)
    pixels = np.clip(canvas + noise, 0, 255).astype(np.uint8)
    masks = _visible([one.distance < 0 for one in placed])
    instances = (Instance(o.shape, o.colour, o.texture, mask) for o, mask in zip(placed, masks, strict=True))
    return Scene(pixels, tuple(instances))


def _place(
    random: np.random.Generator, width: int, height: int, count: int, extent: tuple[float, float], gray: bool
) -> list[_Placed]:
    placed: list[_Placed] = []
    whole: list[Mask] = []
    areas: list[int] = []
    for _ in range(count):
        for _ in range(_TRIES):
            one = _draw(random, width, height, extent, gray)
            mask = one.distance < 0
            area = _full_area(one)
            alike = [other for other, there in zip(whole, placed, strict=True) if there.colour == one.colour]
            if any((mask & other).any() for other in alike):
                continue  # one colour over the same colour has no edge to see
            if _acceptable(_visible([*whole, mask]), [*areas, area]):
                placed, whole, areas = [*placed, one], [*whole, mask], [*areas, area]
                break
    return placed


def _draw(random: np.random.Generator, width: int, height: int, extent: tuple[float, float], gray: bool) -> _Placed:
    shape, texture = str(random.choice(SHAPES)), str(random.choice(TEXTURES))
    size = float(np.exp(random.uniform(*np.log(extent))))
    stretch = float(np.exp(random.uniform(-0.2, 0.2)))
    across, down = size / 2 * np.sqrt(stretch), size / 2 / np.sqrt(stretch)
    margin = min(size * 0.42, width * 0.5, height * 0.5)  # small cuts by the border happen
    centre = random.uniform(margin, width - margin), random.uniform(margin, height - margin)
    turn = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
    u, v = columns - np.float32(centre[0]), rows - np.float32(centre[1])
    x = (u * np.float32(np.cos(turn)) + v * np.float32(np.sin(turn))) / np.float32(across)
    y = (v * np.float32(np.cos(turn)) - u * np.float32(np.sin(turn))) / np.float32(down)
    colour, rgb = _colour(random, gray)
    return _Placed(shape, texture, colour, rgb, distance(shape, x, y), _texture(random, texture, u, v, size))


def _colour(random: np.random.Generator, gray: bool) -> tuple[str, npt.NDArray[np.float32]]:
    if gray:
        return GRAY, np.full(3, random.choice((random.uniform(20, 70), random.uniform(185, 240))), np.float32)
    name = str(random.choice(list(COLOURS)))
    jitter = random.uniform(-12, 12, 3) + random.uniform(-10, 10)
    return name, np.clip(np.asarray(COLOURS[name]) + jitter, 0, 255).astype(np.float32)


def _texture(
    random: np.random.Generator,
    texture: str,
    u: npt.NDArray[np.float32],
    v: npt.NDArray[np.float32],
    size: float,
) -> npt.NDArray[np.float32]:
    """Where the texture is dark, 0 to 1: stripes or dots of a period that small networks can still tell apart."""
    if texture == PLAIN:
        return np.zeros_like(u)
    period, turn = max(7.0, random.uniform(0.16, 0.26) * size), random.uniform(0, np.pi)
    across = (u * np.cos(turn) + v * np.sin(turn)) / period + random.random()
    if texture == STRIPED:
        wave = np.abs(np.mod(across, 1) - 0.5) * 2  # 0 to 1 and back
        dark: npt.NDArray[np.float32] = np.clip((wave - 0.5) * period / 2 + 0.5, 0, 1).astype(np.float32)
    else:
        down = (v * np.cos(turn) - u * np.sin(turn)) / period + random.random()
        radius = np.hypot(np.mod(across, 1) - 0.5, np.mod(down, 1) - 0.5)
        dark = np.clip((0.3 - radius) * period + 0.5, 0, 1).astype(np.float32)
    return dark


def _full_area(one: _Placed) -> int:
    return int(np.count_nonzero(one.distance < 0))


def _visible(whole: list[Mask]) -> list[Mask]:
    """What later instances leave of earlier ones."""
    seen, covered = [], None
    for mask in reversed(whole):
        seen.append(mask if covered is None else mask & ~covered)
        covered = mask if covered is None else covered | mask
    return seen[::-1]


def _acceptable(masks: list[Mask], areas: list[int]) -> bool:
    """Whether enough of every instance shows, and the last one's box is not nearly another's."""
    if any(np.count_nonzero(mask) < VISIBLE * area for mask, area in zip(masks, areas, strict=True)):
        return False
    if np.count_nonzero(masks[-1]) < 12:
        return False
    boxes = [Instance("", "", "", mask).box for mask in masks]
    return all(_iou(boxes[-1], other) <= TOO_CLOSE for other in boxes[:-1])


def _iou(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)
