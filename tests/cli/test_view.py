"""``groundlake view``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from handmade import Handmade, Picture
from PIL import Image

from etl.lake import Lake

Command = Callable[..., Any]


def test_a_sheet_is_written_and_named(groundlake: Command, lake: Lake, tmp_path: Path) -> None:
    Handmade(lake).add(Picture(size=(20, 20)), Picture(size=(20, 30)))
    ran = groundlake("view", "sheet", "--out", tmp_path / "new" / "sheet.png", "--lake", lake.uri)
    assert ran.code == 0
    assert "2 pictures: " in ran.out
    assert Image.open(tmp_path / "new" / "sheet.png").format == "PNG"


def test_nothing_to_show_is_bad_data(groundlake: Command, lake: Lake, tmp_path: Path) -> None:
    ran = groundlake("view", "sheet", "--out", tmp_path / "sheet.png", "--source", "news", "--lake", lake.uri)
    assert (ran.code, "of source 'news'" in ran.err) == (65, True)
