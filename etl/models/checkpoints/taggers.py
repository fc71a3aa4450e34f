"""What the checkpoints of RAM, RAM++ and Tag2Text share.

Source of names and sizes: ``ram/models/`` and ``ram/configs/`` of xinyu1205/recognize-anything, revision 7cb804a.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from transformers import SwinConfig, SwinModel

from etl.models.checkpoints import swin
from etl.models.checkpoints.keys import KeyMap, Shape, Sizes
from etl.models.checkpoints.network import own_shapes, parts
from etl.models.pixels import BILINEAR, IMAGENET
from etl.models.swin_tagger import SWIN

HEADS = 4  # of the tagging head, whatever its width
# Tensors of a tagger, beside what a family adds. The old name of the head is upstream's own.
NAMES = (
    (r"^vision_multi\.", "tagging_head."),
    (rf"^{SWIN}norm\.", f"{SWIN}layernorm."),
    *swin.NAMES,
)
DROPS = (*swin.DROPS, (r"\.position_ids$", "counted, not learned"))
# Not strict, as upstream's loader is not (``load_state_dict(…, strict=False)`` of ram/models/utils.py): these files are
# what training saved, and may hold what only training needed.
TAGGER_KEYS = KeyMap(drops=DROPS, splits=swin.SPLITS, names=NAMES, strict=False)


def head_config(sizes: Sizes) -> dict[str, Any]:
    """Sizes of the tagging head that the families share, from the shapes of a checkpoint."""
    name = "vision_multi" if sizes.count(r"vision_multi\.encoder\.layer\.(\d+)\.") else "tagging_head"
    layer = f"{name}.encoder.layer.0"
    return {
        "hidden_size": sizes.of(f"{layer}.crossattention.self.query.weight", 2)[0],
        "layers": sizes.count(rf"{name}\.encoder\.layer\.(\d+)\."),
        "heads": HEADS,
        "intermediate_size": sizes.of(f"{layer}.intermediate.dense.weight", 2)[0],
    }


def tagger_shapes(config: Mapping[str, Any], build: Callable[[int], nn.Module]) -> dict[str, Shape]:
    """Names and shapes of a tagger's parameters.

    Args:
        config: With ``swin``, the arguments of SwinConfig.
        build: Makes the head for a width of the Swin.
    """
    swin_config = SwinConfig(**config["swin"])
    vision = parts(lambda: SwinModel(swin_config)).shapes
    return {f"{SWIN}{name}": shape for name, shape in vision.items()} | own_shapes(
        lambda: build(int(swin_config.hidden_size))
    )


def preprocessor(config: Mapping[str, Any]) -> dict[str, Any]:
    """How the taggers see a picture: stretched to a square, bilinearly, as upstream's ``get_transform`` does.

    The two pipelines that run RAM hand it pictures which they have stretched themselves, bicubically.
    """
    side = config["swin"]["image_size"]
    return {**IMAGENET, "size": {"height": side, "width": side}, "resample": BILINEAR, "rescale_factor": 1 / 255}
