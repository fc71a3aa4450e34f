"""A small sound lake, made once, of which every test has a copy; and a place for its backup."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sound_lake import Sound, sound

from etl.lake import Lake
from etl.settings import Settings


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Not to be changed."""
    place = tmp_path_factory.mktemp("sound")
    lake = Lake.create(str(place / "lake"), Settings(scratch=place / "scratch", slice_size=10))
    return sound(lake, stages=["tag"])


@pytest.fixture
def made(template: Sound, tmp_path: Path, settings: Settings) -> Sound:
    """A copy of the sound lake, of yesterday."""
    shutil.copytree(template.lake.uri, tmp_path / "lake")
    yesterday = time.time() - 86_400
    for file in (tmp_path / "lake" / "raw").rglob("*.tar"):
        os.utime(file, (yesterday, yesterday))
    return replace(template, lake=Lake.open(str(tmp_path / "lake"), settings), units=dict(template.units))


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where the backup goes."""
    return str(tmp_path / "backup")
