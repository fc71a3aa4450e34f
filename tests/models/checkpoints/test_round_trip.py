"""A small network in upstream's layout, converted and read by our loader, is the network it was."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from real_models import picture
from safetensors.torch import load_file
from tiny_taggers import TAGS, blobs, shaken, write_label_encoder, write_tagger
from transformers import CLIPConfig, CLIPModel
from upstream_layouts import (
    hub_weights,
    small_groundingdino,
    small_sam,
    small_sam_hq,
    upstream_layout,
)

from etl.models.checkpoints import convert, folder_files, groundingdino, ram, ram_plus, sam, sam_hq, tag2text
from etl.models.clip_text import TextEncoder
from etl.models.grounding_dino import Detector
from etl.models.open_set import LabelEncoder
from etl.models.ram import Tagger as Ram
from etl.models.ram_plus import Tagger as RamPlus
from etl.models.sam import Segmenter
from etl.models.sam_hq import Segmenter as HqSegmenter
from etl.models.tag2text import Tagger as Tag2Text
from etl.models.tag2text_captions import Captioner
from etl.models.tokenizers import detector_tokenizer

State = dict[str, torch.Tensor]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """The folder of what a user has."""
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


def assert_equal(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    different = [key for key, value in expected.items() if not torch.equal(found[key], value)]
    assert different == []


@pytest.mark.parametrize(
    ("family", "small", "keys", "name", "loader"),
    [
        ("sam", small_sam, sam.KEYS, "sam_vit_b_01ec64", Segmenter),
        ("sam-hq", small_sam_hq, sam_hq.KEYS, "sam_hq_vit_b", HqSegmenter),
    ],
)
def test_sam(given: Path, out: Path, family: str, small, keys, name: str, loader):
    network = small()
    torch.save(upstream_layout(name, keys, hub_weights(network)), given / f"{name}.pth")
    report = convert(family, folder_files(given), out)
    segmenter = loader(out, "cpu", "float32")
    assert_equal(segmenter.network.state_dict(), network.state_dict())
    assert not report.dropped
    config = json.loads((out / "config.json").read_text())
    assert config["vision_config"]["global_attn_indexes"] == [2]
    assert config["vision_config"]["window_size"] == 3
    assert config["mask_decoder_config"]["layer_norm_eps"] == 1e-5
    (found,) = segmenter.segment([picture(0)], [np.asarray([[10, 10, 90, 80]], np.float32)], 1)
    assert torch.isfinite(found.logits).all()


def test_groundingdino(given: Path, out: Path):
    tokenizer = detector_tokenizer(["star"])
    tokenizer.save_pretrained(given)
    network = small_groundingdino(len(tokenizer))
    names = {key: value for key, value in hub_weights(network).items() if ".swin.layernorm." not in key}
    state = upstream_layout("groundingdino_swint_ogc", groundingdino.KEYS, names)
    state["label_enc.weight"] = torch.zeros(2, 2)
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, given / "groundingdino.pth")
    report = convert("groundingdino", folder_files(given), out)
    assert report.dropped["label_enc.weight"] == "labels of the denoising in training"
    detector = Detector(out, "cpu", "float32")
    unused = {key for key in network.state_dict() if ".layernorm." in key and "swin.layernorm" in key}
    found, expected = (
        {key: value for key, value in one.state_dict().items() if key not in unused}
        for one in (detector.network, network)
    )
    assert_equal(found, expected)
    assert detector.preprocessor.size == {"shortest_edge": 800, "longest_edge": 1333}


def tagger_checkpoint(given: Path, source: Path, family: str, state: State) -> None:
    """A checkpoint of a tagger as a trainer saves it, with its lists beside it."""
    torch.save({"model": state, "epoch": 4}, given / f"{family}.pth")
    for path in [*source.glob("*list*.txt"), *source.glob("token*")]:
        (given / path.name).write_bytes(path.read_bytes())


def test_ram(given: Path, out: Path, tmp_path: Path):
    source = write_tagger(tmp_path / "source", "ram")
    tensors = load_file(source / "model.safetensors")
    state = upstream_layout("ram_swin_large_14m", ram.KEYS, tensors)
    tagger_checkpoint(given, source, "ram", state)
    report = convert("ram", folder_files(given), out)
    assert_equal(load_file(out / "model.safetensors"), tensors)
    assert report.dropped["tag_encoder.embeddings.word_embeddings.weight"] == ram.CAPTIONS
    found, expected = (Ram(folder, "cpu", "float32") for folder in (out, source))
    np.testing.assert_array_equal(found.scores([blobs(0), blobs(1)]), expected.scores([blobs(0), blobs(1)]))
    assert found.tags == TAGS


def test_ram_plus(given: Path, out: Path, tmp_path: Path):
    source = write_tagger(tmp_path / "source", "ram-plus")
    tensors = load_file(source / "model.safetensors")
    tensors["label_embed"] = torch.randn(len(TAGS) * 51, 12, generator=torch.Generator().manual_seed(0))
    tagger_checkpoint(given, source, "ram-plus", upstream_layout("ram_plus_swin_large_14m", ram_plus.KEYS, tensors))
    convert("ram-plus", folder_files(given), out)
    assert_equal(load_file(out / "model.safetensors"), tensors)
    tagger = RamPlus(out, "cpu", "float32")
    assert tagger.scores([blobs(0)]).shape == (1, len(TAGS))


def test_tag2text_with_its_captioner(given: Path, out: Path, tmp_path: Path):
    source = write_tagger(tmp_path / "source", "tag2text")
    tensors = load_file(source / "model.safetensors")
    head, words = "text_decoder.cls.predictions.", "text_decoder.bert.embeddings.word_embeddings.weight"
    twins = {f"{head}decoder.weight": tensors[words], f"{head}decoder.bias": tensors[f"{head}bias"]}
    tensors |= twins
    tagger_checkpoint(given, source, "tag2text", upstream_layout("tag2text_swin_14m", tag2text.KEYS, tensors))
    convert("tag2text", folder_files(given), out)
    assert_equal(load_file(out / "model.safetensors"), tensors)
    found, expected = (Tag2Text(folder, "cpu", "float32") for folder in (out, source))
    np.testing.assert_array_equal(found.scores([blobs(2)]), expected.scores([blobs(2)]))
    assert_equal(
        Captioner(out, "cpu", "float32").text_decoder.state_dict(),
        Captioner(source, "cpu", "float32").text_decoder.state_dict(),
    )


def test_tag2texts_thresholds_go_by_the_numbers_of_its_own_list():
    assert tag2text.tagging(3429)["overrides"] == {"2701": 0.7, "2828": 0.7, "1167": 0.7}
    assert tag2text.tagging(10) == {"threshold": 0.68, "overrides": {}, "deleted": []}


def clip_folder(folder: Path, **options: object) -> CLIPModel:
    """A whole CLIP as Hugging Face publishes it, with the tokenizer of a small text tower."""
    write_label_encoder(folder)
    text = json.loads((folder / "config.json").read_text())
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 8, "patch_size": 4}
    config = CLIPConfig(text_config={**text, "projection_dim": 3}, vision_config=vision, projection_dim=12)
    network = shaken(CLIPModel(config))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "model.safetensors").unlink()
    return network


def test_the_text_tower_of_clip_and_its_projection(given: Path, out: Path):
    state = hub_weights(clip_folder(given))
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # early files have it
    torch.save(state, given / "pytorch_model.bin")
    report = convert("clip-text", folder_files(given), out)
    written = load_file(out / "model.safetensors")
    assert_equal(written, {key: state[key] for key in written})
    assert set(report.dropped.values()) == {
        "sees pictures; only texts are read",
        "compares texts with pictures",
        "counted, not learned",
    }
    assert json.loads((out / "config.json").read_text())["projection_dim"] == 12
    assert TextEncoder(out, "cpu", "float32").vectors(["cat", "dog"], 2).shape == (2, 16)
    assert LabelEncoder(out, "cpu", "float32").label_vectors(["cat"]).shape == (1, 12)


def test_what_is_written_depends_on_the_files_alone(given: Path, out: Path, tmp_path: Path):
    torch.save(upstream_layout("sam_vit_b_01ec64", sam.KEYS, hub_weights(small_sam())), given / "sam.pth")
    again = tmp_path / "again"
    again.mkdir()
    for folder in (out, again):
        convert("sam", folder_files(given), folder)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }
