"""A server on loopback, and a checkpoint that it publishes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from weights_server import WeightsServer

CONTENT = random.Random(7).randbytes(100_000)


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with WeightsServer() as running:
        running.publish("/sam.pth", CONTENT)
        yield running


@pytest.fixture
def content() -> bytes:
    """What the server has under /sam.pth."""
    return CONTENT
