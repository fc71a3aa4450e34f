"""Taggers of the real architectures at small sizes, with seeded random weights, in folders as converters write them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from real_models import model_store
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BlipTextConfig,
    BlipTextLMHeadModel,
    BlipTextModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    SwinConfig,
    SwinModel,
)

from etl.models.pixels import BILINEAR, IMAGENET
from etl.models.ram import RamHead
from etl.models.ram_plus import RamPlusHead
from etl.models.tag2text import Tag2TextHead
from etl.models.tokenizers import detector_tokenizer, encoder_tokenizer
from etl.settings import ModelEntry, Network
from etl.stages.contract import WorkItem
from etl.stages.tag import TagStage

SWIN: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "drop_path_rate": 0.0,
}
WIDTH = 16  # of the Swin's tokens
HEAD = {"hidden_size": 16, "layers": 2, "heads": 4, "intermediate_size": 24}
LABEL_WIDTH = 12
DESCRIPTIONS = 3
TAGS = ["cat", "dog", "red ball", "x-ray", "run", "tree", "sky", "rubik's cube", "walk"]
TAGS_TWICE = ["cat", "dog", "run", "tree", "sky", "run", "walk", "ball", "one", "walk"]  # noun and verb
TAGGING = {"threshold": 0.5, "overrides": {"1": 0.6}, "deleted": [8]}
SEEDS = {"ram": 4, "ram-plus": 0, "tag2text": 1}  # with which pictures get different tags, and not all
HEADS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "ram": (RamHead, {**HEAD, "embed_width": LABEL_WIDTH}),
    "ram-plus": (RamPlusHead, {**HEAD, "embed_width": LABEL_WIDTH, "descriptions": DESCRIPTIONS}),
    "tag2text": (Tag2TextHead, HEAD),
}
TEXT: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 48,
    "layer_norm_eps": 1e-12,
}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from a seed, and those of the caller left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every parameter random, norms and biases too: an unused one would show."""
    with seeded(seed):
        for name, parameter in network.named_parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.2
            gain = parameter.dim() == 1 and name.endswith("weight")  # of a norm
            parameter.data = gain + spread * torch.randn(parameter.shape)
    return network.eval()


def make_head(family: str, n_tags: int) -> nn.Module:
    """A head of a family, all its parameters random."""
    head_type, sizes = HEADS[family]
    head = shaken(head_type(n_tags=n_tags, vision_width=WIDTH, **sizes), SEEDS[family])
    for name, parameter in head.named_parameters():
        if "label_embed" in name:
            parameter.data *= 3
        if name in ("fc.W", "fc.weight"):
            parameter.data *= 4  # else every tag of a picture scores alike
        if name.endswith(("self.key.weight", "self.value.weight")):
            parameter.data *= 4  # else the picture counts little
    return head


def write_tagger(folder: Path, family: str, tags: Sequence[str] | None = None, **config: Any) -> Path:
    """Write a folder of a tagger, its lists under upstream's names."""
    tags = list(tags or (TAGS_TWICE if family == "tag2text" else TAGS))
    folder.mkdir(parents=True)
    with seeded(1):
        swin = shaken(SwinModel(SwinConfig(**SWIN)), 1)
    weights = {f"visual_encoder.{key}": value for key, value in hub_weights(swin).items()}
    weights |= make_head(family, len(tags)).state_dict()
    if family == "tag2text":
        weights |= _captioner(folder, tags)
        config = {"tagging": TAGGING, "text": {**TEXT, "vocab_size": _vocabulary(tags)}, **config}
        (folder / "tag2text_ori_tag_list.txt").write_text("\n".join(tags))
    else:
        (folder / "ram_tag_list.txt").write_text("\n".join(tags))
        (folder / "ram_tag_list_threshold.txt").write_text("\n".join("0.5" for _ in tags))
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / "model.safetensors")
    config = {"model_type": family, "swin": SWIN, "head": HEADS[family][1], **config}
    (folder / "config.json").write_text(json.dumps(config))
    pixels = {"size": {"height": 32, "width": 32}, "resample": BILINEAR, **IMAGENET}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def write_label_encoder(folder: Path, width: int = LABEL_WIDTH, seed: int = 0) -> Path:
    """Write a folder of CLIP's text tower with its projection."""
    tokenizer = encoder_tokenizer(["photo", "cat", "dog"])
    with seeded(seed):
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config = CLIPTextConfig(**sizes, **ids, vocab_size=len(tokenizer), projection_dim=width)
        network = CLIPTextModelWithProjection(config)
    shaken(network, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tag_stage(root: Path, networks: dict[str, Network], **options: Any) -> TagStage:
    """The stage tag with networks loaded."""
    entry = ModelEntry(name="tiny", stage="tag", networks=networks, options=options)
    stage = TagStage(entry)
    stage.load(model_store(root), "cpu")
    return stage


def network(family: str, folder: Path) -> Network:
    """A network of a folder, as the catalog names it."""
    return Network(family=family, weights=f"file:{folder}")


def blobs(seed: int) -> Image.Image:
    """A picture of a few soft coloured blobs; those of two seeds differ everywhere."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((60 + 17 * seed, 150 - 11 * seed), Image.Resampling.BICUBIC)


def items(count: int) -> list[WorkItem]:
    """Work items of different pictures of different sizes."""
    pictures = [blobs(seed) for seed in range(count)]
    return [WorkItem(f"{seed:032d}", "shard", *one.size, one) for seed, one in enumerate(pictures)]


def hub_weights(model: Any) -> dict[str, torch.Tensor]:
    """Weights of a transformers model under the names that every version reads."""
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        return load_file(Path(name) / "model.safetensors")


def _words(tags: Sequence[str]) -> list[str]:
    return ["a", "picture", "of", "|", *sorted({word for tag in tags for word in tag.split()})]


def _vocabulary(tags: Sequence[str]) -> int:
    return len(detector_tokenizer(_words(tags))) + 2  # [DEC] and [ENC]


def _captioner(folder: Path, tags: Sequence[str]) -> dict[str, torch.Tensor]:
    """Weights of the tag encoder and the text decoder; their tokenizer goes into the folder."""
    detector_tokenizer(_words(tags)).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')  # BERT's own
    sizes = {**TEXT, "vocab_size": _vocabulary(tags)}
    with seeded(2):
        encoder = BlipTextModel(BlipTextConfig(**sizes, encoder_hidden_size=WIDTH), add_pooling_layer=False)
        decoder = BlipTextLMHeadModel(BlipTextConfig(**sizes, encoder_hidden_size=TEXT["hidden_size"]))
    shaken(encoder, 3), shaken(decoder, 4)
    decoder.bert.embeddings.position_embeddings.weight.data *= 4  # else one word is said again and again
    decoder.bert.embeddings.word_embeddings.weight.data *= 2
    parts = {"tag_encoder.": encoder, "text_decoder.": decoder}
    return {prefix + key: value for prefix, part in parts.items() for key, value in hub_weights(part).items()}
