"""CLIP's text tower, from a folder of Hugging Face that holds both towers or only this one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from transformers import CLIPTextConfig, CLIPTextModel

from etl.models.checkpoints.errors import CheckpointError, NotACheckpointError
from etl.models.checkpoints.huggingface import CONFIG, read_mapping
from etl.models.checkpoints.keys import KeyMap, Report, Sizes
from etl.models.checkpoints.network import POSITION_IDS, parts
from etl.models.checkpoints.plan import Plan, convert_by
from etl.models.reading import TOKENIZER_FILES

FAMILY = "clip-text"
TOWER, PROJECTION = "text_model.", "text_projection.weight"
KEYS = KeyMap(
    drops=(
        (r"^(vision_model|visual_projection)\.", "sees pictures; only texts are read"),
        (r"^logit_scale$", "compares texts with pictures"),
        (POSITION_IDS, "counted, not learned"),
    )
)


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Write the folder of CLIP's text tower, with its projection where the checkpoint has one.

    Raises:
        CheckpointError: The files are no CLIP.
    """
    return convert_by(partial(plan, text_config(files)), FAMILY, files, out, needed=(TOKENIZER_FILES,))


def plan(options: Mapping[str, Any], sizes: Sizes) -> Plan:
    """What a CLIP checkpoint becomes, whose text tower has ``options``."""
    config = {"model_type": "clip_text_model", **options}
    tower = parts(lambda: CLIPTextModel(CLIPTextConfig(**options))).shapes
    wanted = {f"{TOWER}{name.removeprefix(TOWER)}": shape for name, shape in tower.items()}
    if sizes.has(PROJECTION):
        wanted[PROJECTION] = (int(options["projection_dim"]), int(options["hidden_size"]))
    return Plan(config, wanted, KEYS, None)


def text_config(files: Mapping[str, Path]) -> dict[str, Any]:
    """The text tower's part of ``config.json``; raises CheckpointError when there is none."""
    if CONFIG not in files:
        raise CheckpointError(f"{CONFIG} is missing beside the checkpoint", remedy="give all files of the folder")
    content = read_mapping(files[CONFIG])
    kind = content.get("model_type")
    text = content if kind == "clip_text_model" else content.get("text_config")
    if kind not in ("clip", "clip_text_model") or not isinstance(text, dict):
        raise NotACheckpointError(
            f"{files[CONFIG]} is of model_type {kind!r}, where 'clip' with a text_config was expected",
            remedy="give the folder of a CLIP",
        )
    # Old files list every default of every option of transformers; what the tower does not know is left out.
    default = CLIPTextConfig()
    known = {key: value for key, value in text.items() if key in OPTIONS}
    return {key: getattr(default, key) for key in OPTIONS} | known | _projection(content, known)


OPTIONS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)


def _projection(content: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    width = content.get("projection_dim", known.get("projection_dim"))
    return {} if width is None else {"projection_dim": width}
