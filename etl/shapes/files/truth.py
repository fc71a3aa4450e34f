"""The truth about scenes as COCO files: instances with masks, image tags and captions, keyed by url."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from pycocotools import mask as coco

from etl.shapes.world.scene import Instance, Scene
from etl.shapes.world.words import SHAPES

INSTANCES, CAPTIONS = "instances.json", "captions.json"
CATEGORIES = {shape: number for number, shape in enumerate(sorted(SHAPES), 1)}


class TruthFiles(NamedTuple):
    """Where instances (with image tags) and captions of whole images were written."""

    instances: Path
    captions: Path


def truth_files(folder: Path) -> TruthFiles:
    """Where ``write_truth`` puts its files."""
    return TruthFiles(folder / INSTANCES, folder / CAPTIONS)


def write_truth(folder: Path, pictures: Iterable[tuple[str, Scene]]) -> TruthFiles:
    """Write what is true of (url, scene) pairs into two COCO files of ``folder``; the same pairs give the same bytes.

    Boxes are xywh in pixels of the upright picture and, as masks (compressed RLE), of the visible part only.
    Categories are the shapes; ``tags`` of an image are shapes, colours and textures, ``caption`` of an annotation is
    the phrase of its instance.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for number, (url, scene) in enumerate(pictures, 1):
        height, width = scene.pixels.shape[:2]
        images.append(
            {
                "id": number,
                "file_name": urlsplit(url).path.rpartition("/")[2],
                "width": width,
                "height": height,
                "coco_url": url,
                "tags": scene.tags,
            }
        )
        for one in scene.instances:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **_annotation(one)})
        captions.append({"id": number, "image_id": number, "caption": scene.sentence})
    categories = [{"id": number, "name": shape, "supercategory": "shape"} for shape, number in CATEGORIES.items()]
    files = truth_files(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(files.instances, images=images, annotations=annotations, categories=categories)
    _write(files.captions, images=images, annotations=captions)
    return files


def _annotation(one: Instance) -> dict[str, Any]:
    x1, y1, x2, y2 = one.box
    rle = coco.encode(np.asfortranarray(one.mask, dtype=np.uint8))
    return {
        "category_id": CATEGORIES[one.shape],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
        "area": int(np.count_nonzero(one.mask)),
        "iscrowd": 0,
        "caption": one.phrase,
    }


def _write(path: Path, **content: list[dict[str, Any]]) -> None:
    head = {"info": {"description": "scenes of the shapes world"}, "licenses": []}
    path.write_text(json.dumps({**head, **content}) + "\n")
