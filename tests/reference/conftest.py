"""The reference interpreter of whoever runs these tests, and what it lacks."""

import os

import pytest

from etl.reference.environment import VARIABLE, has_module
from etl.reference.errors import RAM_CHECKOUT

GIVEN = os.environ.get(VARIABLE)  # read before a test's own environment hides it


@pytest.fixture(autouse=True)
def interpreter(_isolated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter that the caller named, if any."""
    if GIVEN:
        monkeypatch.setenv(VARIABLE, GIVEN)


@pytest.fixture(scope="session")
def _has_ram() -> bool:
    return has_module("ram")


@pytest.fixture
def ram(interpreter: None, request: pytest.FixtureRequest) -> None:
    """Skip where the interpreter has no ``ram``, which is on no package index."""
    if not request.getfixturevalue("_has_ram"):
        pytest.skip(f"the reference environment has no package 'ram': {RAM_CHECKOUT}")
