"""Untrained networks: the real architectures with seeded random weights, as folders the loaders read like any other.

What they answer means nothing; that they answer, in the right shapes and places, is what they are for until trained
weights exist. The same configuration and seed give the same files under one version of torch.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPTextConfig,
    CLIPTextModel,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SamConfig,
    SamModel,
    SwinConfig,
    SwinModel,
)

from etl.errors import UnknownNameError
from etl.models import small
from etl.models.grounding_dino import check_special_ids
from etl.models.ram import SWIN, TAG_LIST, THRESHOLDS, RamHead
from etl.models.tokenizers import captioner_tokenizer, detector_tokenizer, encoder_tokenizer


def build(family: str, configuration: str, seed: int, folder: Path) -> None:
    """Write an untrained network of ``family`` into an empty folder.

    Raises:
        UnknownNameError: No such configuration.
    """
    if configuration != "small":
        raise UnknownNameError("untrained configuration", configuration, ["small"])
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        _BUILDERS[family](folder)


def _ram(folder: Path) -> None:
    swin_config = SwinConfig(**small.RAM["swin"])
    swin = _enliven(SwinModel(swin_config))
    head = RamHead(n_tags=len(small.TAGS), vision_width=swin_config.hidden_size, **small.RAM["head"])
    _enliven(head)
    nn.init.orthogonal_(head.label_embed, gain=8.0)
    head.image_proj.weight.mul_(4.0)  # else all pictures get the same tags
    head.fc.bias.fill_(-1.0)
    with tempfile.TemporaryDirectory() as name:  # save_pretrained writes the names every transformers can read
        swin.save_pretrained(name)
        vision = load_file(Path(name) / "model.safetensors")
    weights = {SWIN + key: value for key, value in vision.items()}
    save_file(weights | head.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", small.RAM)
    (folder / TAG_LIST).write_text("\n".join(small.TAGS))
    (folder / THRESHOLDS).write_text("\n".join("0.65" for _ in small.TAGS))
    side = small.RAM["swin"]["image_size"]
    _preprocessor(folder, {"height": side, "width": side}, small.IMAGENET, small.BILINEAR)


def _groundingdino(folder: Path) -> None:
    tokenizer = detector_tokenizer(small.WORDS)
    check_special_ids(folder, tokenizer)
    text = {**small.DETECTOR["text_config"], "vocab_size": len(tokenizer)}
    network = _enliven(GroundingDinoForObjectDetection(GroundingDinoConfig(**small.DETECTOR | {"text_config": text})))
    width = network.config.d_model
    for name, parameter in network.named_parameters():
        if name.endswith(("vision_param", "text_param")):
            parameter.fill_(0.1)  # the default of 1e-4 lets text and image hardly see each other
        # Logits are dot products with a spread of about sqrt(width): these gains bring it to about 1.5.
        elif name.endswith(("text_enhancer_layer.layer_norm_after.weight", "decoder.layer_norm.weight")):
            parameter.fill_(math.sqrt(1.5) / width**0.25)
    for box_head in (*network.bbox_embed, network.model.encoder_output_bbox_embed):
        nn.init.normal_(box_head.layers[-1].weight, std=0.05)
        box_head.layers[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.7, 0.7]))  # larger than the proposals
    network.tie_weights()
    _save(network, folder)
    _save(tokenizer, folder)
    _preprocessor(folder, small.DETECTOR_SIZE, small.IMAGENET, small.BILINEAR)


def _sam(folder: Path) -> None:
    network = _enliven(SamModel(SamConfig(**small.SEGMENTER)))
    # Drawn with a spread of half the width, neighbouring positions would look unrelated.
    nn.init.normal_(network.shared_image_embedding.positional_embedding, std=1.0)
    network.tie_weights()
    _save(network, folder)
    side = small.SEGMENTER_SIDE
    size = {"longest_edge": side}
    _preprocessor(folder, size, small.SAM_PIXELS, small.BILINEAR, pad_size={"height": side, "width": side})


def _blip2(folder: Path) -> None:
    tokenizer = captioner_tokenizer(small.CAPTION_WORDS)
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1, "vocab_size": len(tokenizer)}
    text = {**small.CAPTIONER["text_config"], **ids}
    config = Blip2Config(**small.CAPTIONER | {"text_config": text, "image_token_index": 3})
    network = _enliven(Blip2ForConditionalGeneration(config))
    nn.init.normal_(network.query_tokens, std=0.5)
    network.language_projection.weight.mul_(3.0)  # else all pictures get the same caption
    decoder = network.language_model.model.decoder
    # Output and input embeddings are one matrix: unless the place outweighs the word, a word is followed by itself.
    nn.init.normal_(decoder.embed_tokens.weight, std=0.1)
    nn.init.normal_(decoder.embed_positions.weight, std=1.0)
    _save(network, folder)
    _save(tokenizer, folder)
    side = small.CAPTIONER_SIDE
    _preprocessor(folder, {"height": side, "width": side}, small.CLIP_PIXELS, small.BICUBIC)


def _clip_text(folder: Path) -> None:
    tokenizer = encoder_tokenizer(small.CAPTION_WORDS)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    _save(_enliven(CLIPTextModel(CLIPTextConfig(**small.ENCODER, **ids, vocab_size=len(tokenizer)))), folder)
    _save(tokenizer, folder)


_BUILDERS: dict[str, Callable[[Path], None]] = {
    "ram": _ram,
    "groundingdino": _groundingdino,
    "sam": _sam,
    "blip2": _blip2,
    "clip-text": _clip_text,
}
_KEPT = ("sampling_offsets", "attention_weights", "lm_head")  # geometry, and what is tied to an embedding


def _enliven(network: Any) -> Any:
    """Draw weights that pass a signal on at these small widths, where the usual spread of 0.02 is all but dead."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith(_KEPT):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.5)
    return network


def _save(part: Any, folder: Path) -> None:
    part.save_pretrained(folder)
    for file in folder.glob("*.json"):  # the version of transformers would make equal weights differ
        content = json.loads(file.read_text())
        if content.pop("transformers_version", None):
            _write_json(file, content)


def _preprocessor(
    folder: Path, size: dict[str, int], pixels: dict[str, list[float]], resample: int, **more: Any
) -> None:
    content = {"size": size, "resample": resample, "rescale_factor": 1 / 255, **pixels, **more}
    _write_json(folder / "preprocessor_config.json", content)


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
