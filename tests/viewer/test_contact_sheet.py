"""The sheet shows the same sample of the same lake, and says whose answers it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from handmade import Handmade, Picture, Thing
from PIL import Image

from etl.errors import ConfigurationError, DataError
from etl.lake import Lake
from etl.viewer.contact_sheet import CELL, COLUMNS, GAP, contact_sheet

DOG = Thing("dog", (20, 20, 90, 90), "a brown dog with a very long story that does not fit on one line at all, really")
PICTURES = [Picture(size=(160, 120), things=[DOG, Thing("box", (95, 30, 150, 100), "a box")], seed=n) for n in range(5)]
PLAIN = Picture(size=(60, 200), orientation=6, seed=9)


@pytest.fixture
def hand(lake: Lake) -> Handmade:
    """Five annotated pictures, a plain one, and one of another source."""
    hand = Handmade(lake)
    hand.annotate(hand.add(*PICTURES, PLAIN), *PICTURES, PLAIN, untrained=True)
    hand.add(Picture(size=(50, 50), seed=20), source="other")
    return hand


def test_it_shows_as_many_pictures_as_there_are_up_to_the_limit(hand: Handmade, tmp_path: Path) -> None:
    assert contact_sheet(hand.lake, tmp_path / "all.png") == 7
    assert contact_sheet(hand.lake, tmp_path / "two.png", limit=2) == 2
    assert contact_sheet(hand.lake, tmp_path / "other.png", source="other") == 1
    assert Image.open(tmp_path / "all.png").width == GAP + COLUMNS * (CELL + GAP)
    assert Image.open(tmp_path / "two.png").width == GAP + 2 * (CELL + GAP)


def test_the_same_lake_gives_the_same_sheet(hand: Handmade, tmp_path: Path) -> None:
    contact_sheet(hand.lake, tmp_path / "one.png")
    contact_sheet(hand.lake, tmp_path / "other.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_untrained_weights_are_noted_in_red(hand: Handmade, tmp_path: Path) -> None:
    contact_sheet(hand.lake, tmp_path / "untrained.png", source="hand")
    contact_sheet(hand.lake, tmp_path / "plain.png", source="other")
    red = [
        sum(c for c, rgb in Image.open(tmp_path / n).getcolors(1 << 24) if rgb == (190, 30, 30))
        for n in ("untrained.png", "plain.png")
    ]
    assert red[0] > 50
    assert red[1] == 0


def test_an_empty_lake_has_nothing_to_show(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture"):
        contact_sheet(lake, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_a_place_that_cannot_be_written_is_said(hand: Handmade, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot write"):
        contact_sheet(hand.lake, tmp_path / "file" / "sheet.png", limit=1)
