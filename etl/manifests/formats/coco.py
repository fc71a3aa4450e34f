"""COCO instances and captions per split, beside the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from etl.manifests.example import Example, Instance
from etl.manifests.files import Files
from etl.manifests.formats.contract import Format, Plan
from etl.manifests.formats.pictures import upright


class Coco(Format):
    """``annotations/instances_<split>.json``, ``annotations/captions_<split>.json`` and ``images/<split>/…``.

    Categories are the labels sorted by name, numbered from 1: the same labels give the same ids. Image and annotation
    ids are positions in this manifest; ``groundlake_image_id`` and ``groundlake_instance_id`` lead back to the lake.
    Boxes are xywh in pixels, masks compressed RLE, ``area`` is the mask's.
    """

    name: ClassVar[str] = "coco"
    VERSION: ClassVar[int] = 1

    def open(self, files: Files, plan: Plan) -> None:
        self._files, self._plan = files, plan
        self._categories = {label: number for number, label in enumerate(plan.labels, 1)}
        self._next_image = self._next_annotation = self._next_caption = 1
        self._lists = {
            (split, kind): _Array(files.folder / f".{split}-{kind}")
            for split in plan.splits
            for kind in ("images", "instances", "captions")
        }

    def write(self, example: Example, data: bytes) -> int:
        self.check_instances(example)
        extension, picture, again = upright(example, data, self.options.jpeg_quality)
        self.notes["pictures_encoded_again"] += again
        file_name = f"{example.image_id}.{extension}"
        self._files.write(f"images/{example.split}/{file_name}", picture)
        number, self._next_image = self._next_image, self._next_image + 1
        self._lists[example.split, "images"].add(
            {
                "id": number,
                "file_name": file_name,
                "width": example.width,
                "height": example.height,
                "coco_url": next((one.url for one in example.sightings), ""),
                "groundlake_image_id": example.image_id,
            }
        )
        for one in example.instances:
            self._lists[example.split, "instances"].add(self._annotation(example, one, number))
            self._next_annotation += 1
        self._write_caption(example, number)
        return len(example.instances)

    def close(self) -> None:
        categories = [{"id": n, "name": label, "supercategory": ""} for label, n in self._categories.items()]
        for split in self._plan.splits:
            images = self._lists[split, "images"]
            images.close()
            for kind in ("instances", "captions"):
                annotations = self._lists[split, kind]
                annotations.close()
                head: dict[str, Any] = {"info": {"description": self._plan.name}, "licenses": []}
                if kind == "instances":
                    head["categories"] = categories
                self._join(f"annotations/{kind}_{split}.json", head, images.path, annotations.path)
                annotations.path.unlink()
            images.path.unlink()

    def _annotation(self, example: Example, one: Instance, image: int) -> dict[str, Any]:
        x1, y1, x2, y2 = one.box
        return {
            "id": self._next_annotation,
            "image_id": image,
            "category_id": self._categories[one.label],
            "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
            "segmentation": {"size": [example.height, example.width], "counts": one.mask_counts},
            "area": one.mask_area,
            "iscrowd": 0,
            "score": round(one.score, 4),
            "caption": one.description,
            "groundlake_instance_id": one.instance_id,
        }

    def _write_caption(self, example: Example, image: int) -> None:
        caption = self.caption(example)
        if not caption:
            self.notes["images_without_caption"] += 1
            return
        row = {"id": self._next_caption, "image_id": image, "caption": caption}
        self._lists[example.split, "captions"].add(row)
        self._next_caption += 1

    def _join(self, name: str, head: dict[str, Any], images: Path, annotations: Path) -> None:
        file = self._files.stream(name)
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "images": ')
        file.copy_from(images)
        file.write(', "annotations": ')
        file.copy_from(annotations)
        file.write("}\n")
        file.close()


class _Array:
    """A JSON array on disk: COCO wants its arrays in one file, memory wants them never."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._separator = "[\n"

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(self._separator + json.dumps(row, ensure_ascii=False))
        self._separator = ",\n"

    def close(self) -> None:
        self._file.write("[]" if self._separator == "[\n" else "\n]")
        self._file.close()
