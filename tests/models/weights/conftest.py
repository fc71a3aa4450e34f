"""A server on loopback, a checkpoint that it publishes, and a model store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from real_models import model_store
from stand_in_converter import install
from weights_server import WeightsServer

from etl.models.store import ModelStore
from etl.settings import WeightsEntry

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


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the real converter; to be replaced by ``converter.convert = …``."""
    return install(monkeypatch)


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    """An empty model store in ``tmp_path / "lake"``."""
    return model_store(tmp_path)


@pytest.fixture
def entry_of(server: WeightsServer) -> Callable[..., WeightsEntry]:
    """Entries of SAM weights: of files with these names, published at the server's root, and further fields."""

    def make(*names: str, **more: Any) -> WeightsEntry:
        files = [{"name": name, "url": server.url(f"/{name}")} for name in names or ("sam.pth",)]
        fields = {"name": "sam-mine", "family": "sam", "licence": "CC-BY-4.0", "files": files}
        return WeightsEntry(**{**fields, "allow_http": True, "allow_private_addresses": True, **more})

    return make


@pytest.fixture
def entry(entry_of: Callable[..., WeightsEntry]) -> WeightsEntry:
    """A SAM checkpoint of which nothing is known but where it is."""
    return entry_of()
