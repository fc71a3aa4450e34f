"""RAM: ``ram_swin_large_14m.pth``, with ``ram_tag_list.txt`` and ``ram_tag_list_threshold.txt``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.models.checkpoints import taggers
from etl.models.checkpoints.keys import Report, Sizes
from etl.models.checkpoints.plan import Plan, convert_by
from etl.models.checkpoints.swin import swin_config
from etl.models.ram import TAG_LISTS, THRESHOLD_LISTS, RamHead
from etl.models.swin_tagger import SWIN
from etl.models.tag_lists import read_tags, read_thresholds

FAMILY = "ram"
LISTS = (TAG_LISTS, THRESHOLD_LISTS)
CAPTIONS = "captions only, which RAM's tags do not need"
KEYS = dataclasses.replace(
    taggers.TAGGER_KEYS,
    drops=((r"^tag_encoder\.", CAPTIONS), (r"^text_decoder\.", CAPTIONS), *taggers.DROPS),
)


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Write the folder of a RAM checkpoint.

    Raises:
        CheckpointError: It is none, or a list is missing.
        ConfigurationError: A list does not fit the network.
    """
    return convert_by(plan, FAMILY, files, out, needed=LISTS, check=check_lists)


def plan(sizes: Sizes) -> Plan:
    """What a RAM checkpoint becomes."""
    config: dict[str, Any] = {"model_type": "ram", "swin": swin_config(sizes, SWIN), "head": ram_head(sizes)}
    n_tags, _ = sizes.of("label_embed", 2)
    wanted = taggers.tagger_shapes(config, lambda width: RamHead(n_tags=n_tags, vision_width=width, **config["head"]))
    return Plan(config, wanted, KEYS, taggers.preprocessor(config))


def ram_head(sizes: Sizes) -> dict[str, Any]:
    """Sizes of the head of RAM and RAM++."""
    return {"embed_width": sizes.of("wordvec_proj.weight", 2)[1], **taggers.head_config(sizes)}


def check_lists(out: Path, sizes: Sizes, each: int = 1) -> None:
    """Raise ConfigurationError unless the lists of tags and thresholds have a line per ``each`` label embeddings."""
    n_tags = sizes.of("label_embed", 2)[0] // each
    read_tags(out, TAG_LISTS, n_tags)
    read_thresholds(out, THRESHOLD_LISTS, n_tags)
