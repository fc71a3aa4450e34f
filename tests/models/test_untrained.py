"""Untrained networks are the same everywhere, and are read like trained ones."""

from pathlib import Path

import pytest
from real_models import FAMILIES

from etl.models.store import folder_digest
from etl.models.untrained import build


@pytest.mark.parametrize("family", FAMILIES)
def test_one_seed_gives_one_network_and_another_seed_another(family: str, weights: dict[str, Path], tmp_path: Path):
    build(family, "small", 0, tmp_path / "same")
    build(family, "small", 1, tmp_path / "other")
    assert folder_digest(tmp_path / "same") == folder_digest(weights[family])
    other, first = ((folder / "model.safetensors").read_bytes() for folder in (tmp_path / "other", weights[family]))
    assert other != first


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_is_safetensors_and_text_only(family: str, weights: dict[str, Path]):
    assert {path.suffix for path in weights[family].iterdir()} <= {".safetensors", ".json", ".txt"}
