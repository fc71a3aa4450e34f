"""Weights that do not fit their network are refused, never filled up with random numbers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from real_models import FAMILIES
from safetensors.torch import load_file, save_file

from etl.errors import ConfigurationError
from etl.models.blip2 import Captioner
from etl.models.clip_text import TextEncoder
from etl.models.grounding_dino import Detector
from etl.models.ram import Tagger
from etl.models.sam import Segmenter

READERS: dict[str, Any] = {
    "ram": Tagger,
    "groundingdino": Detector,
    "sam": Segmenter,
    "blip2": Captioner,
    "clip-text": TextEncoder,
}


@pytest.fixture
def copy(weights: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda family: Path(shutil.copytree(weights[family], tmp_path / family))


def _edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _widest(tensors: dict[str, torch.Tensor]) -> str:
    return max(tensors, key=lambda name: tensors[name].numel())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_key_is_named(family: str, copy: Callable[[str], Path]):
    folder, removed = copy(family), []
    _edit(folder, lambda tensors: removed.append(_widest(tensors)) or tensors.pop(removed[0]))
    with pytest.raises(ConfigurationError, match="lack 1 keys"):
        READERS[family](folder, "cpu", "float32")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_surplus_key_is_named(family: str, copy: Callable[[str], Path]):
    folder = copy(family)
    _edit(folder, lambda tensors: tensors.update({"surplus.weight": torch.zeros(2)}))
    with pytest.raises(ConfigurationError, match=r"unknown 1 keys: surplus\.weight"):
        READERS[family](folder, "cpu", "float32")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_key_of_another_shape_is_refused(family: str, copy: Callable[[str], Path]):
    folder = copy(family)
    _edit(folder, lambda tensors: tensors.update({_widest(tensors): torch.zeros(3, 3)}))
    with pytest.raises(ConfigurationError, match="another shape"):
        READERS[family](folder, "cpu", "float32")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_torn_file_is_refused(family: str, copy: Callable[[str], Path]):
    folder = copy(family)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        READERS[family](folder, "cpu", "float32")


@pytest.mark.parametrize("family", ["ram", "groundingdino", "sam", "blip2"])
def test_a_preprocessor_without_its_size_is_refused(family: str, copy: Callable[[str], Path]):
    folder = copy(family)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "size": {}}))
    with pytest.raises(ConfigurationError, match="size needs"):
        READERS[family](folder, "cpu", "float32")


@pytest.mark.parametrize("family", ["groundingdino", "blip2", "clip-text"])
def test_a_missing_tokenizer_is_refused(family: str, copy: Callable[[str], Path]):
    folder = copy(family)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigurationError, match="tokenizer"):
        READERS[family](folder, "cpu", "float32")


def test_a_tokenizer_larger_than_its_network_is_refused(copy: Callable[[str], Path]):
    folder, other = copy("blip2"), copy("groundingdino")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(other / name, folder / name)
    with pytest.raises(ConfigurationError, match="its network knows"):
        Captioner(folder, "cpu", "float32")


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_load_in_bfloat16_too(family: str, weights: dict[str, Path]):
    READERS[family](weights[family], "cpu", "bfloat16")
