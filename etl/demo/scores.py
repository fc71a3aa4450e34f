"""How right the demo's annotators are: the truth of the sample goes into the lake, and they are scored against it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl.demo.pictures import SampleSource
from etl.shapes.world.words import COLOUR_NAMES, PLAIN, SHAPES, TEXTURES

if TYPE_CHECKING:
    from etl.evaluate.evaluation import Evaluation
    from etl.lake import Lake

TRUTH = "shapes-truth"
GROUPS = {
    "shapes": SHAPES,
    "colours": COLOUR_NAMES,
    "textures": tuple(texture for texture in TEXTURES if texture != PLAIN),
}


def score(lake: Lake, sample: SampleSource, source: str) -> Evaluation:
    """Land the sample's truth, unless it is in the lake, and score the current annotators of ``source``.

    Raises:
        GroundlakeError: The truth cannot be landed, or nothing can be scored.
    """
    from etl.evaluate.classes import ClassMap
    from etl.evaluate.evaluation import evaluate
    from etl.truth.coco import read_coco
    from etl.truth.landing import land_truth

    truth = read_coco(*sample.truth)
    request = f"demo__{datetime.now(UTC).isoformat()}"  # a new one each time: it lands what is not there yet
    land_truth(lake, truth, name=TRUTH, source=source, request=request)
    return evaluate(lake, truth=TRUTH, source=source, classes=ClassMap(groups=GROUPS))
