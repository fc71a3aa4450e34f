"""CLIP's text tower at a tiny size with seeded random weights; ids laid out as OpenAI's: the end token comes last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

WORDS = ["!", '"', "#", "a", "b", "c", "d", "e"]
START, END, LENGTH = 8, 9, 12


def clip_folder(folder: Path, *, last: str | None = None, **config: Any) -> Path:
    """A folder of weights whose texts have at most ``LENGTH`` tokens.

    Args:
        folder: Where to write.
        last: A word that takes the end token's place as the largest id, which no OpenAI vocabulary has.
        config: Changes of ``config.json``.
    """
    settings = CLIPTextConfig(
        vocab_size=12,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        **{"eos_token_id": END, "bos_token_id": START, **config},
    )
    torch.manual_seed(0)
    network: Any = CLIPTextModel(settings)
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.4)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings.to_dict()))
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    words = [*WORDS, "<start>", "<end>", *([f"{last}{last}"] if last else [])]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="!"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", START), ("<end>", END)]
    )
    roles = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<end>", "unk_token": "!"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
    return folder
