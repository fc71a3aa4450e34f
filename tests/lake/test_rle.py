"""Masks are measured as pycocotools would decode them, and nonsense is told from them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pycocotools import mask as coco

from etl.lake import rle
from etl.lake.rle import measure


def random_masks(count: int, seed: int = 0) -> tuple[list[str], list[int], list[int]]:
    """Strings, pixels and areas of masks from empty to full, from specks to areas."""
    generator = np.random.default_rng(seed)
    found: tuple[list[str], list[int], list[int]] = ([], [], [])
    for _ in range(count):
        height, width = generator.integers(1, 200, 2)
        mask = np.kron(generator.random((height, width)) < generator.random(), np.ones((1, generator.integers(1, 4))))
        mask = np.asfortranarray(mask, dtype=np.uint8)
        for values, value in zip(
            found, (coco.encode(mask)["counts"].decode(), mask.size, int(mask.sum())), strict=True
        ):
            values.append(value)
    return found


def column(*strings: str) -> pa.ChunkedArray:
    return pa.chunked_array([list(strings)], pa.string())


@pytest.mark.parametrize("at_once", [1, 1000, 1 << 20])
def test_pixels_and_areas_are_those_of_the_masks(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rle, "_AT_ONCE", at_once)
    strings, pixels, areas = random_masks(100)
    measured = measure(pa.chunked_array([strings[:30], strings[30:]]))
    assert not measured.broken.any()
    assert (measured.pixels.tolist(), measured.area.tolist()) == (pixels, areas)


def test_a_part_of_a_column_is_measured_as_such() -> None:
    strings, pixels, _ = random_masks(20)
    assert measure(pa.chunked_array([strings]).slice(5, 9)).pixels.tolist() == pixels[5:14]


@pytest.mark.parametrize("text", ["P", "1P", "P" * 100 + "1", "x", "é", " ", "\0", "O", "[1]", "11O", "~~~"])
def test_what_is_no_mask_is_told_and_spoils_no_neighbour(text: str) -> None:
    measured = measure(column("94400000g0", text, "", "94400000g0"))
    assert measured.broken.tolist() == [False, True, False, False]
    assert measured.pixels[[0, 2, 3]].tolist() == [64, 0, 64]
    assert measured.area[[0, 2, 3]].tolist() == [16, 0, 16]


def test_any_bytes_are_measured_without_an_error() -> None:
    generator = np.random.default_rng(1)
    strings = ["".join(map(chr, generator.integers(0, 128, generator.integers(0, 40)))) for _ in range(2000)]
    measured = measure(column(*strings))
    assert measured.broken.sum() > 1000
    assert (measured.pixels[~measured.broken] >= measured.area[~measured.broken]).all()


def test_an_empty_column_has_nothing_to_measure() -> None:
    assert len(measure(column()).broken) == len(measure(pa.chunked_array([], pa.string())).broken) == 0
