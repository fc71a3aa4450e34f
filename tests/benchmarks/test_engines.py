"""What benchmarks/engines.py stands on: networks of the real sizes, operations counted right, captions of full length.

Real sizes are built on the meta device, where numbers take no memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import SwinConfig, SwinModel

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import engines_folders as folders
import engines_measure as measure
import engines_tasks as tasks

from etl.models.pixels import shortest_edge_shape
from etl.models.ram import RamHead
from etl.models.ram_plus import RamPlusHead
from etl.models.tag2text import Tag2TextHead

pytestmark = pytest.mark.reference  # operations are those of the specification of upstream's networks
HEADS: dict[str, Callable[..., Any]] = {"ram": RamHead, "ram-plus": RamPlusHead, "tag2text": Tag2TextHead}


def tera(network: Any, *given: Any, **named: Any) -> float:
    """TFLOP of a call."""
    network.eval().requires_grad_(False)
    with torch.no_grad():
        return measure.flops(lambda: network(*given, **named)) / 1e12


def real(name: str) -> Any:
    return folders.build(folders.VARIANTS[name].family, folders.config_of(name, "real"))


@pytest.fixture(autouse=True)
def _without_numbers():
    with torch.device("meta"):
        yield


class TestOperationsPerPictureAreThoseOfTheTableInTheSpecification:
    @pytest.mark.parametrize(("name", "expected"), [("sam-vit-h", 5.96), ("sam-vit-l", 2.99), ("sam-vit-b", 0.97)])
    def test_sam(self, name: str, expected: float) -> None:
        network = real(name)
        assert tera(network.vision_encoder, torch.empty(1, 3, 1024, 1024)) == pytest.approx(expected, abs=0.01)
        ten = {"image_embeddings": torch.empty(1, 256, 64, 64), "input_boxes": torch.empty(1, 10, 4)}
        assert tera(network, **ten, multimask_output=False) == pytest.approx(0.036, abs=0.001)

    @pytest.mark.parametrize(("name", "expected"), [("ram", 0.324), ("ram-plus", 0.325), ("tag2text", 0.179)])
    def test_the_taggers(self, name: str, expected: float) -> None:
        config = folders.config_of(name, "real")
        swin = SwinConfig(**config["swin"])
        head = HEADS[name](n_tags=folders.TAGS[name], vision_width=swin.hidden_size, **config["head"])
        seen = tera(SwinModel(swin), torch.empty(1, 3, 384, 384))
        assert seen + tera(head, torch.empty(1, 145, swin.hidden_size)) == pytest.approx(expected, abs=0.001)

    def test_blip2(self) -> None:
        network = real("blip2-opt-2.7b")
        assert sum(one.numel() for one in network.parameters()) == pytest.approx(3.74e9, rel=0.01)
        assert tera(network.vision_model, torch.empty(1, 3, 224, 224)) == pytest.approx(0.521, abs=0.001)
        read = {"query_embeds": torch.empty(1, 32, 768), "encoder_hidden_states": torch.empty(1, 257, 1408)}
        assert tera(network.qformer, **read) == pytest.approx(0.013, abs=0.001)
        assert tera(network.language_model, inputs_embeds=torch.empty(1, 33, 2560)) == pytest.approx(0.175, abs=0.01)


@pytest.mark.parametrize("name", sorted(folders.VARIANTS))
def test_a_small_network_has_the_parts_of_the_real_one(name: str) -> None:
    family, count = folders.VARIANTS[name].family, folders.TAGS.get(folders.VARIANTS[name].family, 0)
    small, large = (folders.shapes_of(family, folders.config_of(name, size), count) for size in ("small", "real"))
    assert small.keys() <= large.keys()


def test_random_weights_write_every_caption_to_its_full_length(tmp_path: Path) -> None:
    with torch.device("cpu"):
        folder = folders.folder_of("blip2-opt-2.7b", "small", tmp_path)
        engine = tasks.opened("blip2-opt-2.7b", folder, "cpu", "float32")
        steps: list[object] = []
        engine.network.language_model.register_forward_hook(lambda *_: steps.append(None))
        tasks.caption(engine, tasks.work_of("small", 1), 1)
    assert len(steps) == tasks.NEW_TOKENS


def test_the_real_detector_is_asked_with_32_tokens_and_sees_the_largest_shape() -> None:
    tokenizer: Any = folders.detector_tokenizer(folders.WORDS)
    phrases = folders.WORDS[: tasks.PHRASES]
    assert sum(len(tokenizer(phrase, add_special_tokens=False)["input_ids"]) + 1 for phrase in phrases) + 2 == 32
    sides = folders.groundingdino.PREPROCESSOR["size"]
    assert shortest_edge_shape(*tasks.PICTURE["real"], *sides.values()) == (1333, 800)
