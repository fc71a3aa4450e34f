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


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, _pictures: Path) -> ScoredLake:
    """A lake of four pictures, which the module's own fixture says things about; its tests only read it."""
    place = tmp_path_factory.mktemp("scored")
    shutil.copytree(_pictures, place / "lake")
    return ScoredLake(Lake.open(str(place / "lake"), Settings(scratch=place / "scratch", commit_deadline=5.0)))
