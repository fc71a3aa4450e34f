"""The weights that the package carries are those that its catalog names, and its cards describe."""

import re

import numpy as np
import pytest

from etl.models.clip_text import TextEncoder
from etl.models.load import packaged_folder
from etl.models.store import folder_digest
from etl.settings import Network, load_catalog
from etl.shapes.train.__main__ import PLANS
from etl.shapes.train.embedder import PHRASES, shared
from etl.shapes.train.publish import FAMILIES, LIMIT, WEIGHTS

NETWORKS = {
    re.findall(r"shapes/(\w+)@", network.weights)[0]: network
    for model in load_catalog().models.values()
    for network in model.networks.values()
    if network.weights.startswith("packaged:")
}


def test_the_catalog_names_every_network_of_the_pack():
    assert set(NETWORKS) == set(PLANS) == set(FAMILIES)


@pytest.mark.parametrize("name", sorted(PLANS))
def test_the_package_carries_the_weights_that_the_catalog_names(name: str):
    assert packaged_folder(NETWORKS[name]).is_dir()


@pytest.mark.parametrize("name", sorted(PLANS))
def test_the_card_is_of_these_weights(name: str):
    assert folder_digest(WEIGHTS / name) in (WEIGHTS / f"{name}.md").read_text()


def test_all_weights_together_stay_within_the_limit():
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*.*")) <= LIMIT


def test_weights_are_safetensors_and_text_only():
    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".safetensors", ".json", ".txt", ".md"}


def test_the_embedder_tells_phrases_apart_by_what_they_have_in_common():
    network: Network = NETWORKS["embedder"]
    vectors = TextEncoder(packaged_folder(network), "cpu", "float32").vectors(PHRASES, 64)
    scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(scaled @ scaled.T, shared(PHRASES), atol=0.15)
