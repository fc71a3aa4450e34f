"""Builds each untrained network once."""

from pathlib import Path

import pytest
from real_models import FAMILIES

from etl.models.untrained import build


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of the untrained network of each family; not to be changed."""
    root = tmp_path_factory.mktemp("weights")
    for family in FAMILIES:
        build(family, "small", 0, root / family)
    return {family: root / family for family in FAMILIES}
