"""Qwen-VL as Hugging Face publishes it: taken as it is, one file or many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from etl.models.checkpoints.huggingface import take
from etl.models.checkpoints.keys import Report


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Check a published folder of Qwen3-VL and link its files; raises CheckpointError when it is none."""
    return take("qwen-vl", files, out, _build)


def _build(config: Mapping[str, Any]) -> Any:
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
