"""From the catalog's text to a folder of weights."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from real_models import model_store

from etl.errors import ConfigurationError
from etl.models import load
from etl.models.load import materialise
from etl.models.store import WeightsAbsentError, folder_digest
from etl.settings import Network, load_catalog


def test_packaged_weights_are_needed_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    models, network = model_store(tmp_path), load_catalog().model("embed").networks["encoder"]
    first = materialise(models, network)
    assert folder_digest(first).startswith(network.weights.partition("@")[2])
    monkeypatch.setattr(load, "PACKAGE", tmp_path / "a later version that carries others")
    assert materialise(models, network) == first


def test_digits_of_weights_that_the_package_does_not_carry_are_refused(tmp_path: Path):
    network = Network(family="clip-text", weights="packaged:shapes/embedder@000000000000")
    with pytest.raises(ConfigurationError, match=r"carries other weights of shapes/embedder (.|\n)*@[0-9a-f]{12} into"):
        materialise(model_store(tmp_path), network)


def test_a_network_that_the_package_does_not_carry_is_refused(tmp_path: Path):
    network = Network(family="clip-text", weights="packaged:shapes/none@000000000000")
    with pytest.raises(ConfigurationError, match=r"shapes/weights/none does not exist"):
        materialise(model_store(tmp_path), network)


def test_a_folder_is_needed_only_once(tmp_path: Path, weights: dict[str, Path]):
    given = tmp_path / "given"
    shutil.copytree(weights["sam"], given)
    models, network = model_store(tmp_path), Network(family="sam", weights=f"file:{given}")
    first = materialise(models, network)
    shutil.rmtree(given)
    assert materialise(models, network) == first


def test_a_folder_that_changed_after_it_was_added_is_refused(tmp_path: Path, weights: dict[str, Path]):
    given = tmp_path / "given"
    shutil.copytree(weights["sam"], given)
    models, network = model_store(tmp_path), Network(family="sam", weights=f"file:{given}")
    materialise(models, network)
    (given / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="has changed since it was added"):
        materialise(models, network)


def test_weights_of_another_family_are_refused(tmp_path: Path, weights: dict[str, Path]):
    network = Network(family="sam", weights=f"file:{weights['ram']}")
    with pytest.raises(ConfigurationError, match="model_type 'ram'; family 'sam' needs 'sam'"):
        materialise(model_store(tmp_path), network)


def test_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        materialise(model_store(tmp_path), Network(family="sam", weights="file:/nowhere/at/all"))


def test_pickles_are_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ConfigurationError, match="holds no"):
        materialise(model_store(tmp_path / "store"), Network(family="sam", weights=f"file:{tmp_path}"))


def test_upstreams_weights_come_from_the_store_only(tmp_path: Path, weights: dict[str, Path]):
    models, network = model_store(tmp_path), Network(family="sam", weights="catalog:sam-vit-h")
    with pytest.raises(WeightsAbsentError, match="groundlake models pull sam-vit-h"):
        materialise(models, network)
    models.add(network, weights["sam"])
    assert folder_digest(materialise(models, network)) == folder_digest(weights["sam"])


def test_stored_weights_are_reached_without_importing_torch():
    code = "import sys, etl.models.load, etl.stages.tag, etl.stages.ground, etl.stages.caption, etl.stages.embed; "
    subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=True)


def test_waiting_threads_of_torch_leave_their_core_to_others():
    code = "import etl.stages.runner, os, sys; sys.exit(os.environ['OMP_WAIT_POLICY'] != 'passive')"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
