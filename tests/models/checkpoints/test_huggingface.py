"""Folders as Hugging Face publishes them: taken as they are when all of them is there and fits, else refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_captioners import blip2_folder, qwen_folder, sharded

from etl.models.blip2 import Captioner
from etl.models.checkpoints import convert, folder_files
from etl.models.checkpoints.errors import (
    CheckpointError,
    DamagedCheckpointError,
    NotACheckpointError,
    WrongFamilyError,
    WrongKeysError,
)

INDEX = "model.safetensors.index.json"


@pytest.fixture
def blip2(tmp_path: Path) -> Path:
    return blip2_folder(tmp_path / "blip2", "t5")


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Replace tensors of a whole file; None removes one."""
    state = {**load_file(folder / "model.safetensors"), **tensors}
    kept = {key: value for key, value in state.items() if value is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("language", ["opt", "t5"])
def test_blip2_is_taken_as_it_is(tmp_path: Path, out: Path, language: str):
    folder = blip2_folder(tmp_path / "blip2", language)
    report = convert("blip2", folder_files(folder), out)
    assert report.renamed.keys() == load_file(folder / "model.safetensors").keys()
    assert {name: path.read_bytes() for name, path in folder_files(out).items()} == {
        name: path.read_bytes() for name, path in folder_files(folder).items()
    }
    Captioner(out, "cpu", "float32")


def test_weights_in_shards_are_taken_as_they_are(blip2: Path, out: Path):
    convert("blip2", folder_files(sharded(blip2)), out)
    Captioner(out, "cpu", "float32")


def test_qwen_is_taken_as_it_is(tmp_path: Path, out: Path):
    folder = qwen_folder(tmp_path / "qwen")
    assert convert("qwen-vl", folder_files(folder), out).renamed
    assert folder_files(out).keys() == folder_files(folder).keys()


@pytest.mark.parametrize(("family", "title"), [("qwen-vl", "Qwen-VL"), ("blip2", "BLIP-2")])
def test_another_familys_folder_is_refused_by_name(tmp_path: Path, out: Path, family: str, title: str):
    folder = qwen_folder(tmp_path / "net") if family == "blip2" else blip2_folder(tmp_path / "net", "opt")
    with pytest.raises(WrongFamilyError, match=rf"but one of {title} is needed"):
        convert(family, folder_files(folder), out)


def test_a_folder_of_no_known_family_is_refused(blip2: Path, out: Path):
    (blip2 / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(NotACheckpointError, match="model_type 'llama'; family 'blip2' needs 'blip-2'"):
        convert("blip2", folder_files(blip2), out)


@pytest.mark.parametrize("name", ["config.json", "model-00002-of-00003.safetensors"])
def test_a_missing_file_is_named(blip2: Path, out: Path, name: str):
    (sharded(blip2) / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        convert("blip2", folder_files(blip2), out)
    assert list(out.iterdir()) == []


def test_shards_without_their_index_are_refused(blip2: Path, out: Path):
    (sharded(blip2) / INDEX).unlink()
    with pytest.raises(CheckpointError, match=f"need {INDEX} beside them"):
        convert("blip2", folder_files(blip2), out)


def test_a_shard_that_is_cut_short_is_refused(blip2: Path, out: Path):
    shard = sharded(blip2) / "model-00001-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DamagedCheckpointError, match=r"model-00001-of-00003.safetensors is cut short"):
        convert("blip2", folder_files(blip2), out)


def test_an_index_that_is_not_that_of_its_shards_is_refused(blip2: Path, out: Path):
    index = sharded(blip2) / INDEX
    content = json.loads(index.read_text())
    content["weight_map"]["query_tokens"] = "model-00003-of-00003.safetensors"
    content["weight_map"]["made_up"] = "model-00003-of-00003.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(DamagedCheckpointError, match="made_up"):
        convert("blip2", folder_files(blip2), out)


def test_pickles_are_not_taken_as_they_are(blip2: Path, out: Path):
    (blip2 / "model.safetensors").rename(blip2 / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no \*.safetensors among"):
        convert("blip2", folder_files(blip2), out)


def test_keys_that_are_missing_or_not_known_are_named(blip2: Path, out: Path):
    change(blip2, **{"query_tokens": None, "query_tokenz": torch.ones(2)})
    with pytest.raises(WrongKeysError) as refused:
        convert("blip2", folder_files(blip2), out)
    assert refused.value.missing == ("query_tokens",)
    assert refused.value.unexpected == ("query_tokenz",)
    assert list(out.iterdir()) == []


def test_a_wrong_shape_is_named(blip2: Path, out: Path):
    change(blip2, query_tokens=torch.ones(1, 3, 5))
    with pytest.raises(WrongKeysError, match=r"query_tokens \[1, 3, 5\] \(expected"):
        convert("blip2", folder_files(blip2), out)


def test_one_name_is_enough_for_a_parameter_with_several(tmp_path: Path, out: Path):
    folder = blip2_folder(tmp_path / "blip2", "opt")
    change(folder, **{"language_model.lm_head.weight": None})
    convert("blip2", folder_files(folder), out)


def test_position_ids_of_early_files_are_read_past(blip2: Path, out: Path):
    change(blip2, **{"qformer.embeddings.position_ids": torch.arange(3)[None]})
    report = convert("blip2", folder_files(blip2), out)
    assert report.dropped == {"qformer.embeddings.position_ids": "the network reads past it"}


def test_a_configuration_of_no_network_is_refused(blip2: Path, out: Path):
    config = json.loads((blip2 / "config.json").read_text())
    config["qformer_config"]["hidden_size"] = "wide"
    (blip2 / "config.json").write_text(json.dumps(config))
    with pytest.raises(NotACheckpointError, match="its sizes do not describe BLIP-2"):
        convert("blip2", folder_files(blip2), out)
