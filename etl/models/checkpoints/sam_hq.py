"""SAM-HQ: ``sam_hq_vit_h.pth``, ``sam_hq_vit_l.pth``, ``sam_hq_vit_b.pth``.

Source of names and sizes: ``segment_anything/`` of SysCV/sam-hq, revision fb181f8: SAM, and in the mask decoder a
further token with what it reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import SamHQConfig, SamHQModel

from etl.models.checkpoints import sam
from etl.models.checkpoints.keys import Report, Sizes
from etl.models.checkpoints.network import parts
from etl.models.checkpoints.plan import Plan, convert_by

FAMILY = "sam-hq"
_HQ = (
    (r"\.hf_token\.", ".hq_token."),
    (r"\.hf_mlp\.layers\.0\.", ".hq_mask_mlp.proj_in."),
    (r"\.hf_mlp\.layers\.1\.", ".hq_mask_mlp.layers.0."),
    (r"\.hf_mlp\.layers\.2\.", ".hq_mask_mlp.proj_out."),
    (r"\.compress_vit_feat\.0\.", ".compress_vit_conv1."),
    (r"\.compress_vit_feat\.1\.", ".compress_vit_norm."),
    (r"\.compress_vit_feat\.3\.", ".compress_vit_conv2."),
    (r"\.embedding_encoder\.0\.", ".encoder_conv1."),
    (r"\.embedding_encoder\.1\.", ".encoder_norm."),
    (r"\.embedding_encoder\.3\.", ".encoder_conv2."),
    (r"\.embedding_maskfeature\.0\.", ".mask_conv1."),
    (r"\.embedding_maskfeature\.1\.", ".mask_norm."),
    (r"\.embedding_maskfeature\.3\.", ".mask_conv2."),
)
KEYS = dataclasses.replace(sam.KEYS, names=(*_HQ, *sam.KEYS.names))


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Write the folder of a SAM-HQ checkpoint; raises CheckpointError when it is none."""
    return convert_by(plan, FAMILY, files, out)


def plan(sizes: Sizes) -> Plan:
    """What a SAM-HQ checkpoint becomes."""
    config: dict[str, Any] = {"model_type": "sam_hq", **sam.sam_config(sizes)}
    config["mask_decoder_config"]["vit_dim"] = sizes.of("mask_decoder.compress_vit_feat.0.weight", 4)[0]
    wanted = parts(lambda: SamHQModel(SamHQConfig(**config))).shapes
    return Plan(config, wanted, KEYS, sam.preprocessor(config))
