"""The stages over stored scenes, in this process: what the pipeline would write, without a lake."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco
from real_models import loaded_stage
from scene_scores import Seen, Thing

from etl.shapes.world.scene import Scene
from etl.stages.contract import Result, Stage, WorkItem
from etl.stages.pictures import Broken, decode

Rows = dict[str, list[dict[str, Any]]]


class Replay:
    """tag, ground and caption of the shipped catalog, loaded once.

    Args:
        root: Folder for their weights.
    """

    def __init__(self, root: Path) -> None:
        self.stages = {name: loaded_stage(name, root) for name in ("tag", "ground", "caption")}

    def see(self, stored: Sequence[tuple[Scene, bytes]]) -> list[tuple[Scene, Seen]]:
        """Every scene with what the stages say of its stored bytes."""
        pictures = [decode(data, scene.pixels.shape[1], scene.pixels.shape[0]) for scene, data in stored]
        rows: list[Rows] = [{} for _ in stored]
        for stage in self.stages.values():
            self._run(stage, stored, pictures, rows)
        return [(scene, seen_of(one)) for (scene, _), one in zip(stored, rows, strict=True)]

    def _run(
        self, stage: Stage, stored: Sequence[tuple[Scene, bytes]], pictures: Sequence[Any], rows: list[Rows]
    ) -> None:
        items = []
        for number, ((scene, data), picture) in enumerate(zip(stored, pictures, strict=True)):
            if not isinstance(picture, Broken):
                height, width = scene.pixels.shape[:2]
                image_id = hashlib.sha256(data).hexdigest()[:32]
                upstream = {table: rows[number].get(table, []) for table in stage.reads}
                items.append((number, WorkItem(image_id, "shard", width, height, picture, upstream)))
        waiting = []
        for number, item in items:
            skipped = stage.skip(item)
            if skipped is None:
                waiting.append((number, item))
        waiting.sort(key=lambda one: repr(stage.shape(one[1].width, one[1].height)))
        for _, members in groupby(waiting, key=lambda one: stage.shape(one[1].width, one[1].height)):
            batch = list(members)
            results: list[Result] = stage.process([item for _, item in batch])
            for (number, _), result in zip(batch, results, strict=True):
                rows[number].update({table: list(made) for table, made in result.rows.items()})


def seen_of(rows: Rows) -> Seen:
    """What the rows of one picture say."""
    captions = {row["instance_id"]: row for row in rows.get("captions", ())}
    things = []
    for row in rows.get("instances", ()):
        size = [row["mask_height"], row["mask_width"]]
        mask = coco.decode({"size": size, "counts": row["mask_counts"].encode()}).astype(np.bool_)
        caption = captions.get(row["instance_id"])
        text = caption["caption"] if caption and caption["flag"] != "label" else None
        box = (row["x1"], row["y1"], row["x2"], row["y2"])
        things.append(Thing(row["label"], row["score"], box, mask, text))
    tags = frozenset(tag["tag"] for row in rows.get("tags", ()) for tag in row["tags"])
    return Seen(tags, tuple(things), captions[None]["caption"] if None in captions else "")
