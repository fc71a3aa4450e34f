"""BLIP-2 as Hugging Face publishes it: taken as it is, one file or many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Blip2Config, Blip2ForConditionalGeneration

from etl.models.checkpoints.huggingface import take
from etl.models.checkpoints.keys import Report


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Check a published folder of BLIP-2 and link its files; raises CheckpointError when it is none."""
    return take("blip2", files, out, _build)


def _build(config: Mapping[str, Any]) -> Any:
    return Blip2ForConditionalGeneration(Blip2Config(**config))
