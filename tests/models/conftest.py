"""The networks that the package carries."""

from pathlib import Path

import pytest
from real_models import packaged


@pytest.fixture(scope="session")
def weights() -> dict[str, Path]:
    """The folder of the network of each family; not to be changed."""
    return packaged()
