"""Fixtures of the converters' tests."""

from pathlib import Path

import pytest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder that is converted into."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
