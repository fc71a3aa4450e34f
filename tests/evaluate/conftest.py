"""Lakes with a truth and somebody to score."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scored_lake import ScoredLake, add_pictures

from etl.lake import Lake
from etl.settings import Settings


@pytest.fixture(scope="session")
def _pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pictures")
    add_pictures(Lake.create(str(place / "lake"), Settings(scratch=place / "scratch")))
    return place / "lake"


@pytest.fixture
def scored(tmp_path: Path, settings: Settings, _pictures: Path) -> ScoredLake:
    """A lake of four pictures that nobody said anything about."""
    shutil.copytree(_pictures, tmp_path / "lake")
    return ScoredLake(Lake.open(str(tmp_path / "lake"), settings))
