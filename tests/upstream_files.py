"""Small checkpoints as their authors publish them: their file names, their wrappers, and what lies beside them.

Networks are of the real architectures with seeded random weights. What a trainer leaves in a file (an optimizer, a
configuration, prefixes of parallel training) is there too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tiny_captioners import blip2_folder, sharded
from tiny_taggers import shaken, write_label_encoder, write_tagger
from transformers import CLIPConfig, CLIPModel
from upstream_layouts import hub_weights, small_groundingdino, small_sam, small_sam_hq, upstream_layout

from etl.models.checkpoints import groundingdino, ram, ram_plus, sam, sam_hq, tag2text
from etl.models.checkpoints.keys import KeyMap
from etl.models.ram_plus import DESCRIPTIONS
from etl.models.tokenizers import detector_tokenizer

State = dict[str, torch.Tensor]
TAGGERS: dict[str, tuple[str, KeyMap]] = {
    "ram": ("ram_swin_large_14m", ram.KEYS),
    "ram-plus": ("ram_plus_swin_large_14m", ram_plus.KEYS),
    "tag2text": ("tag2text_swin_14m", tag2text.KEYS),
}


def write_tagger_files(folder: Path, family: str, tags: Sequence[str], thresholds: Sequence[float] = ()) -> Path:
    """A tagger's ``.pth`` as its trainer saved it, with its lists, and its tokenizer where it has a captioner."""
    name, keys = TAGGERS[family]
    source = write_tagger(folder / "source", family, tags)
    tensors = load_file(source / "model.safetensors")
    if family == "ram-plus":
        random = torch.Generator().manual_seed(0)
        tensors["label_embed"] = torch.randn(
            len(tags) * DESCRIPTIONS, tensors["label_embed"].shape[1], generator=random
        )
    if family == "tag2text":
        tensors |= _tied(tensors)
    state = upstream_layout(name, keys, tensors)
    moments = {number: {"step": 7, "exp_avg": torch.ones(3)} for number in range(4)}
    training = {"optimizer": {"state": moments, "param_groups": [{"lr": 1e-5}]}, "config": {"vit": "swin"}, "epoch": 9}
    torch.save({"model": state, **training}, folder / f"{name}.pth")
    for path in (*source.glob("*list*.txt"), *source.glob("token*")):
        path.rename(folder / path.name)
    shutil.rmtree(source)
    if thresholds:
        (folder / "ram_tag_list_threshold.txt").write_text("\n".join(str(value) for value in thresholds))
    return folder


def write_groundingdino_files(folder: Path, words: Sequence[str]) -> Path:
    """``groundingdino_swint_ogc.pth`` of a parallel training, with BERT's tokenizer."""
    folder.mkdir(parents=True)
    tokenizer = detector_tokenizer(words)
    tokenizer.save_pretrained(folder)
    network = small_groundingdino(len(tokenizer))
    names = {key: value for key, value in hub_weights(network).items() if ".swin.layernorm." not in key}
    state = upstream_layout("groundingdino_swint_ogc", groundingdino.KEYS, names)
    state["label_enc.weight"] = torch.zeros(2, 2)
    torch.save(
        {"model": {f"module.{key}": value for key, value in state.items()}}, folder / "groundingdino_swint_ogc.pth"
    )
    return folder


def write_sam_files(folder: Path, family: str) -> Path:
    """``sam_vit_b_01ec64.pth`` or ``sam_hq_vit_b.pth``: a bare state dict."""
    folder.mkdir(parents=True)
    name = "sam_vit_b_01ec64" if family == "sam" else "sam_hq_vit_b"
    network, keys = (small_sam(), sam.KEYS) if family == "sam" else (small_sam_hq(), sam_hq.KEYS)
    torch.save(upstream_layout(name, keys, hub_weights(network)), folder / f"{name}.pth")
    return folder


def write_blip2_files(folder: Path, language: str) -> Path:
    """A folder of BLIP-2 as Hugging Face publishes it, in several parts."""
    return sharded(blip2_folder(folder, language))


def write_clip_files(folder: Path) -> Path:
    """A folder of a whole CLIP, both towers, as OpenAI published it: ``pytorch_model.bin``."""
    write_label_encoder(folder)
    text = json.loads((folder / "config.json").read_text())
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    vision = {**sizes, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=text["projection_dim"])
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "model.safetensors").unlink()
    torch.save(hub_weights(shaken(CLIPModel(config))), folder / "pytorch_model.bin")
    return folder


def _tied(tensors: State) -> State:
    head, words = "text_decoder.cls.predictions.", "text_decoder.bert.embeddings.word_embeddings.weight"
    return {f"{head}decoder.weight": tensors[words], f"{head}decoder.bias": tensors[f"{head}bias"]}
