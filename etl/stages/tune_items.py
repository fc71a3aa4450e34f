"""Work to measure a stage with: drawn pictures of one usual size, and the rows that stages before it would give.

The pictures are few and come round again; texts are each picture's own, since a stage embeds equal ones once. Drawn
scenes mean something to the packaged networks only, but the work that a network has does not depend on what it sees,
but for the masks of boxes that it finds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from PIL import Image

from etl.shapes.world.scene import Scene
from etl.shapes.world.splits import numbered_scene
from etl.shapes.world.words import TAGS
from etl.stages.contract import Row, WorkItem

PICTURES = 8
OBJECTS = 6  # wanted in a picture; the generator puts in what fits


def sample_items(count: int, size: tuple[int, int]) -> list[WorkItem]:
    """Work items, the same ones at every call.

    Args:
        count: How many.
        size: Width and height of every picture in pixels.
    """
    scenes = [numbered_scene("test", number, size=size, count=OBJECTS) for number in range(min(PICTURES, count))]
    drawn = [(scene, Image.fromarray(scene.pixels)) for scene in scenes]
    return [
        WorkItem(f"{number:032d}", "tune", *size, picture, _upstream(number, scene))
        for number, (scene, picture) in zip(range(count), itertools.cycle(drawn), strict=False)
    ]


def _upstream(number: int, scene: Scene) -> Mapping[str, Sequence[Row]]:
    # As many tags as a busy photograph gets, the same for all: prompts of one length.
    tags = [{"tag": tag, "score": 1.0} for tag in TAGS]
    instances, captions = [], [{"instance_id": None, "caption": f"{scene.sentence} , {number}"}]
    for index, one in enumerate(scene.instances):
        x1, y1, x2, y2 = (float(edge) for edge in one.box)
        key = f"{number:016d}{index:016d}"
        box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "area": (x2 - x1) * (y2 - y1)}
        instances.append({"instance_id": key, "label": one.phrase, "phrase": one.phrase, "score": 1.0, **box})
        captions.append({"instance_id": key, "caption": f"{one.phrase} , {number} {index}"})
    return {"tags": [{"tags": tags}], "instances": instances, "captions": captions}
