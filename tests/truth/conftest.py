"""A lake whose pictures have truth, landed once; tests that change it take a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from handmade import Handmade, Picture, Thing
from sound_lake import Sound
from truth_files import BALL, Content, compressed, image, rectangle, thing, write, write_captions

from etl.lake import Lake
from etl.settings import Settings
from etl.truth.coco import read_coco
from etl.truth.landing import Landed, land_truth
from etl.truth.model import Truth

SIZE, UPRIGHT = (64, 48), (48, 64)
DOG_BOX, BALL_BOX = (10, 12, 30, 40), (40, 5, 60, 25)
PICTURES = (
    Picture(SIZE, [Thing("dog", DOG_BOX), Thing("ball", BALL_BOX)], seed=1),
    Picture(UPRIGHT, [Thing("dog", DOG_BOX)], orientation=6, seed=2),
    Picture(SIZE, [Thing("dog", DOG_BOX)], seed=3),  # the file has its box, and no mask
    Picture(SIZE, seed=4),  # with nothing in it
    Picture(UPRIGHT, orientation=6, seed=5),  # the file has its size before EXIF orientation
    Picture(SIZE, seed=6),  # of which an annotation is broken
    Picture(SIZE, seed=7),  # the file does not speak of it
    Picture(SIZE, seed=8),  # the file has it by its id in the lake
    Picture(SIZE, seed=9),
    Picture(SIZE, seed=10),
)
AGAIN = (Picture(SIZE, seed=9), Picture(SIZE, seed=10))  # the same two under other urls


def url(number: int, shard: int = 0) -> str:
    return f"http://example.test/hand/{shard}/{number}"


def corners(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """x, y, width and height of a box that is given by its edges."""
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def polygon(box: tuple[int, int, int, int]) -> list[list[int]]:
    x1, y1, x2, y2 = box
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def files(folder: Path, ids: list[str]) -> tuple[Path, Path]:
    """The truth about ``PICTURES``; images and pictures have the same numbers."""
    sizes = dict.fromkeys(range(10), SIZE) | {1: UPRIGHT, 4: SIZE}
    images: list[Content] = [image(n, sizes[n], url(n)) for n in range(10) if n not in (6, 7)]
    images += [image(7, url="http://elsewhere.test/7", groundlake_image_id=ids[7], tags=["green", "ball"])]
    images[-1] |= {"width": SIZE[0], "height": SIZE[1]}
    images += [image(20, SIZE, url(0, shard=1)), image(21, SIZE, url(1, shard=1)), image(30, SIZE, url(99))]
    dog = compressed(rectangle(UPRIGHT, *corners(DOG_BOX)))
    annotations = [
        thing(0, corners(DOG_BOX), segmentation=polygon(DOG_BOX), caption="a brown dog"),
        thing(0, corners(BALL_BOX), BALL, segmentation=polygon(BALL_BOX)),
        thing(1, corners(DOG_BOX), segmentation=dog),
        thing(2, corners(DOG_BOX)),
        thing(5, corners(DOG_BOX), segmentation=dog),
        thing(9, corners(DOG_BOX)),  # but not of image 21, which is the same picture
    ]
    return write(folder, images, annotations), write_captions(folder, (0, "a dog and a ball"), (3, "nothing"))


@dataclass(frozen=True)
class World:
    """A lake, the truth about its pictures, and what became of it."""

    hand: Handmade
    truth: Truth
    landed: Landed

    @property
    def lake(self) -> Lake:
        return self.hand.lake

    @property
    def ids(self) -> list[str]:
        return self.hand.ids


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Not to be changed."""
    root = tmp_path_factory.mktemp("truth")
    hand = Handmade(Lake.create(str(root / "lake"), Settings(scratch=root / "scratch", slice_size=4)))
    hand.add(*PICTURES)
    hand.add(*AGAIN)
    truth = read_coco(*files(root, hand.ids))
    return World(hand, truth, land_truth(hand.lake, truth, name="made", source="hand", request="first"))


@pytest.fixture
def world(template: World, tmp_path: Path, settings: Settings) -> World:
    """A copy, to be changed."""
    shutil.copytree(template.lake.uri, tmp_path / "lake")
    lake = Lake.open(str(tmp_path / "lake"), settings)
    return World(Handmade(lake, list(template.ids), template.hand.shards), template.truth, template.landed)


@pytest.fixture
def web(lake: Lake) -> Sound:
    """Twelve pictures of one pixel, two slices, in a lake that a check finds nothing wrong with."""
    lake.settings = lake.settings.model_copy(update={"commit_deadline": 60.0})  # a twin inside a write takes its time
    made = Sound(lake)
    made.download()
    return made


@pytest.fixture
def tags(tmp_path: Path) -> Truth:
    """Tags of those twelve, and nothing else: one order."""
    images = [image(n, (1, 1), tags=[f"number {n}"]) for n in range(12)]
    return read_coco(write(tmp_path, images, categories=[]))


@pytest.fixture
def raw() -> Callable[[Lake, str], list[dict[str, Any]]]:
    """Every row of a table, whatever views show."""
    return lambda lake, table: lake.table(table).to_pyarrow_table().to_pylist()
