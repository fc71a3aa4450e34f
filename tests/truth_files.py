"""COCO files made by hand: what they say of every picture is known to the pixel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

CATEGORIES = ({"id": 1, "name": "dog"}, {"id": 2, "name": "ball"})
DOG, BALL = 1, 2
Content = dict[str, Any]


def compressed(mask: np.ndarray[Any, Any]) -> Content:
    """A mask [height, width] as COCO's compressed run lengths."""
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def plain(mask: np.ndarray[Any, Any]) -> Content:
    """A mask [height, width] as uncompressed run lengths: column by column, clear pixels first."""
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *edges, len(pixels)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if pixels[0] else runs}


def rectangle(size: tuple[int, int], x: int, y: int, across: int, down: int) -> np.ndarray[Any, Any]:
    """A mask [height, width] of a picture of width and height ``size`` that is one rectangle."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[y : y + down, x : x + across] = True
    return mask


def thing(image: int, bbox: Sequence[float] = (1, 2, 3, 4), category: int = DOG, **more: Any) -> Content:
    """An annotation; without an id, so that files can be put together."""
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


def image(number: int, size: tuple[int, int] = (12, 10), url: str | None = None, **more: Any) -> Content:
    """An image of width and height ``size``, found at ``url`` or at one made of its number."""
    url = url or f"http://web.test/{number}"
    return {"id": number, "file_name": f"{number}.jpg", "width": size[0], "height": size[1], "coco_url": url, **more}


def write(
    folder: Path, images: Sequence[Any], annotations: Sequence[Any] = (), name: str = "instances.json", **more: Any
) -> Path:
    """An instances file; annotations without an id get their place, from 1, as theirs."""
    numbered = [{"id": n, **one} if isinstance(one, dict) else one for n, one in enumerate(annotations, 1)]
    content = {"images": list(images), "annotations": numbered, "categories": list(CATEGORIES), **more}
    (folder / name).write_text(json.dumps(content))
    return folder / name


def write_captions(folder: Path, *captions: tuple[int, Any]) -> Path:
    """A captions file of pairs of image id and caption."""
    rows = [{"id": n, "image_id": image, "caption": text} for n, (image, text) in enumerate(captions, 1)]
    (folder / "captions.json").write_text(json.dumps({"images": [], "annotations": rows}))
    return folder / "captions.json"
