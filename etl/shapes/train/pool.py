"""A pool of training scenes: each is drawn once, used a few times in other orientations, then replaced.

Drawing a scene costs about as much as training on it once; turned and mirrored it is as good as new, since no name in
this world depends on orientation.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from etl.shapes.world.scene import Scene
from etl.shapes.world.splits import Split, numbered_scene
from etl.shapes.world.words import COLOUR_NAMES, SHAPES, TEXTURES


@dataclass(frozen=True)
class Sample:
    """A scene as arrays.

    Attributes:
        pixels: uint8 [height, width, 3].
        owners: uint8 [height, width]: 0 where there is no instance, else its number from 1.
        kinds: int64 [instances, 3]: index of shape, colour and texture.
    """

    pixels: npt.NDArray[np.uint8]
    owners: npt.NDArray[np.uint8]
    kinds: npt.NDArray[np.int64]

    @property
    def picture(self) -> Image.Image:
        """The pixels as a picture."""
        return Image.fromarray(self.pixels)

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """float32 [instances, 4]: xyxy in pixels of the visible parts."""
        found = np.zeros((len(self.kinds), 4), np.float32)
        for number in range(len(self.kinds)):
            mask = self.owners == number + 1
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            found[number] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return found

    def turned(self, way: int) -> Sample:
        """One of its eight orientations."""
        pixels, owners = np.rot90(self.pixels, way % 4), np.rot90(self.owners, way % 4)
        if way >= 4:
            pixels, owners = pixels[:, ::-1], owners[:, ::-1]
        return Sample(np.ascontiguousarray(pixels), np.ascontiguousarray(owners), self.kinds)


def to_sample(scene: Scene, quality: int | None = None) -> Sample:
    """A scene as arrays; through JPEG of ``quality`` when given."""
    pixels = scene.pixels
    if quality:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        pixels = np.asarray(Image.open(buffer))
    owners = np.zeros(pixels.shape[:2], np.uint8)
    for number, one in enumerate(scene.instances, start=1):
        owners[one.mask] = number
    kinds = [
        (SHAPES.index(one.shape), COLOUR_NAMES.index(one.colour), TEXTURES.index(one.texture))
        for one in scene.instances
    ]
    return Sample(pixels, owners, np.asarray(kinds, np.int64).reshape(-1, 3))


def numbered_sample(split: Split, number: int, seed: int = 0) -> Sample:
    """A numbered scene; three of ten went through JPEG."""
    quality = np.random.default_rng([9, seed, number]).integers(60, 96)
    return to_sample(numbered_scene(split, number, seed), int(quality) if number % 10 < 3 else None)


class Pool:
    """An endless supply of training samples.

    Args:
        seed: Which scenes, and in which order.
        size: Scenes kept at once.
        uses: How often a scene is used before a new one takes its place.
    """

    def __init__(self, seed: int, size: int = 1500, uses: int = 8) -> None:
        self._random = np.random.default_rng([3, seed])
        self._seed, self._size, self._uses = seed, size, uses
        self._samples: list[Sample] = []
        self._left: list[int] = []
        self._next = 0

    def take(self, count: int) -> list[Sample]:
        """The next samples."""
        return [self._one() for _ in range(count)]

    def skip(self, scenes: int) -> None:
        """Go on with other scenes than a run that was stopped here had seen."""
        self._next = scenes

    @property
    def drawn(self) -> int:
        """Scenes drawn so far."""
        return self._next

    def _one(self) -> Sample:
        if len(self._samples) < self._size and (not self._samples or self._random.random() < 1 / self._uses * 4):
            place = len(self._samples)  # grows while it is used, so that training starts at once
            self._samples.append(self._draw())
            self._left.append(self._uses)
        else:
            place = int(self._random.integers(len(self._samples)))
            if self._left[place] == 0:
                self._samples[place], self._left[place] = self._draw(), self._uses
        self._left[place] -= 1
        return self._samples[place].turned(int(self._random.integers(8)))

    def _draw(self) -> Sample:
        self._next += 1
        return numbered_sample("train", self._next, self._seed)
