"""A family is opened for the task it does, and for no other."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from etl.errors import ConfigurationError, UnknownNameError
from etl.models.families import FAMILIES, open_network
from etl.models.folders import MODEL_TYPES
from etl.settings import Network


def test_the_catalog_and_the_families_know_the_same_names():
    assert set(get_args(Network.model_fields["family"].annotation)) == set(FAMILIES) == set(MODEL_TYPES)


@pytest.mark.parametrize(
    ("family", "task"),
    [
        ("ram", "tagger"),
        ("groundingdino", "grounder"),
        ("sam", "segmenter"),
        ("blip2", "captioner"),
        ("clip-text", "embedder"),
    ],
)
def test_a_family_is_opened_by_its_own_class(weights: dict[str, Path], family: str, task: str):
    network = open_network(family, task, weights[family], "cpu", "float32")
    assert f"{type(network).__module__}:{type(network).__name__}" == FAMILIES[family].loader


def test_a_family_that_does_another_task_is_refused_with_those_that_do_it(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"'ram' is a tagger, but a segmenter is needed(.|\n)*sam or sam-hq"):
        open_network("ram", "segmenter", tmp_path, "cpu", "float32")


def test_a_switch_that_a_family_lacks_is_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="'clip-text' have no switch compiled"):
        open_network("clip-text", "embedder", tmp_path, "cpu", "float32", compiled=True)


@pytest.mark.parametrize(
    ("family", "task", "parts"),
    [
        ("ram", "tagger", {"SwinModel", "RamHead"}),
        ("groundingdino", "grounder", {"GroundingDinoForObjectDetection"}),
        ("sam", "segmenter", {"SamVisionEncoder"}),
        ("blip2", "captioner", {"Blip2VisionModel", "Blip2QFormerModel"}),
    ],
)
def test_what_costs_the_time_is_what_is_compiled(
    weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch, family: str, task: str, parts: set[str]
):
    compiled = set()
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part: compiled.add(type(part).__name__))
    open_network(family, task, weights[family], "cpu", "float32", compiled=True)
    assert compiled == parts


@pytest.mark.parametrize(("family", "task"), [("sam", "segmenter"), ("blip2", "captioner")])
def test_attention_reaches_the_network(weights: dict[str, Path], family: str, task: str):
    network = open_network(family, task, weights[family], "cpu", "float32", attention="eager").network
    assert network.config._attn_implementation == network.config.vision_config._attn_implementation == "eager"


def test_an_unknown_family_is_refused_with_the_known_ones(tmp_path: Path):
    with pytest.raises(UnknownNameError, match=r"unknown family of networks 'yolo'; known: .*groundingdino"):
        open_network("yolo", "grounder", tmp_path, "cpu", "float32")


def test_families_are_known_without_importing_torch():
    code = "import sys, etl.models.families, etl.models.contracts; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
