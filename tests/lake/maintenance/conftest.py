"""A lake for every test, copied from one that is made once: nothing in a lake says where it lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from etl.lake import Lake
from etl.settings import Settings


@pytest.fixture(scope="session")
def empty_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty lake that no test may write to."""
    folder = tmp_path_factory.mktemp("template") / "lake"
    Lake.create(str(folder), Settings())
    return folder


@pytest.fixture
def lake(empty_lake: Path, tmp_path: Path, settings: Settings) -> Lake:
    """An empty lake in ``tmp_path / "lake"``."""
    shutil.copytree(empty_lake, tmp_path / "lake")
    return Lake.open(str(tmp_path / "lake"), settings)
