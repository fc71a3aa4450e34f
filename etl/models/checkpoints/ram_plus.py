"""RAM++: ``ram_plus_swin_large_14m.pth``, with ``ram_tag_list.txt`` and ``ram_tag_list_threshold.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from etl.models.checkpoints import taggers
from etl.models.checkpoints.errors import WrongKeysError
from etl.models.checkpoints.folder import open_checkpoint, write_folder
from etl.models.checkpoints.keys import Report, Sizes, map_keys
from etl.models.checkpoints.ram import copy_lists, ram_head
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
    path, state = open_checkpoint(files, FAMILY)
    sizes = Sizes(path, FAMILY, state)
    head = {**ram_head(sizes), "descriptions": DESCRIPTIONS}
    config = {"model_type": "ram-plus", "swin": swin_config(sizes, SWIN), "head": head}
    rows, width = sizes.of("label_embed", 2)
    if rows % DESCRIPTIONS:
        text = f"[{rows}, {width}] (expected {DESCRIPTIONS} rows for each tag)"
        raise WrongKeysError(path, FAMILY, shapes={"label_embed": text})
    n_tags = rows // DESCRIPTIONS
    copy_lists(files, out, n_tags)
    wanted = taggers.tagger_shapes(config, lambda width: RamPlusHead(n_tags=n_tags, vision_width=width, **head))
    tensors, report = map_keys(path, FAMILY, state, KEYS, wanted)
    write_folder(out, config, tensors, taggers.preprocessor(config))
    return report
