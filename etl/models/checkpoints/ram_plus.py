"""RAM++: ``ram_plus_swin_large_14m.pth``, with ``ram_tag_list.txt`` and ``ram_tag_list_threshold.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from etl.models.checkpoints import taggers
from etl.models.checkpoints.keys import Report, Sizes
from etl.models.checkpoints.plan import Plan, convert_by
from etl.models.checkpoints.ram import LISTS, check_lists, ram_head
from etl.models.checkpoints.swin import swin_config
from etl.models.ram_plus import DESCRIPTIONS, RamPlusHead
from etl.models.swin_tagger import SWIN

FAMILY = "ram-plus"
KEYS = taggers.TAGGER_KEYS


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Write the folder of a RAM++ checkpoint.

    Raises:
        CheckpointError: It is none, or a list is missing.
        ConfigurationError: A list does not fit the network.
    """
    return convert_by(plan, FAMILY, files, out, needed=LISTS, check=partial(check_lists, each=DESCRIPTIONS))


def plan(sizes: Sizes) -> Plan:
    """What a RAM++ checkpoint becomes."""
    head = {**ram_head(sizes), "descriptions": DESCRIPTIONS}
    config: dict[str, Any] = {"model_type": "ram-plus", "swin": swin_config(sizes, SWIN), "head": head}
    n_tags = sizes.of("label_embed", 2)[0] // DESCRIPTIONS  # a remainder is refused as a wrong shape
    wanted = taggers.tagger_shapes(config, lambda width: RamPlusHead(n_tags=n_tags, vision_width=width, **head))
    return Plan(config, wanted, KEYS, taggers.preprocessor(config))
