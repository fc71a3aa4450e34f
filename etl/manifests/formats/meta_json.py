"""An image tree, label files and ``meta.json``, as rich-context L2I's ``CC3MSyntheticDataset`` reads them."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from pydantic import Field

from etl.manifests.example import Example, Instance
from etl.manifests.files import Files, StreamedFile
from etl.manifests.formats.contract import Format, FormatOptions, Plan
from etl.manifests.formats.pictures import upright_jpeg, xywh

_PER_FOLDER = 10_000  # the loader finds a picture under id // 10000


class MetaJsonOptions(FormatOptions):
    """Options of the format."""

    min_instances: int = Field(1, ge=0)
    image_folder: str = Field(
        "cc3m-images", pattern=r"^[A-Za-z0-9._-]+$", description="laion400m-images for LAION_synthetic.py"
    )


class MetaJson(Format):
    """``<image_folder>/00000/<id>.jpg`` with a side file, ``labels/00000/label_<id>.json``, and a list per split.

    The list of the split ``train`` (or of the only one) is ``meta.json``, that of another is ``meta_<split>.json``.
    Pass the manifest's folder as ``root`` and its ``labels`` as ``synthetic_data_dir``. Ids are positions in this
    manifest, because the loader wants numbers; the side file names the image_id.
    """

    name: ClassVar[str] = "meta_json"
    VERSION: ClassVar[int] = 1
    Options: ClassVar[type[FormatOptions]] = MetaJsonOptions
    options: MetaJsonOptions

    def open(self, files: Files, plan: Plan) -> None:
        self._files, self._plan, self._next = files, plan, 0
        self._lists: dict[str, StreamedFile] = {}
        for split in plan.splits:
            main = split == "train" or len(plan.splits) == 1
            self._lists[split] = files.stream("meta.json" if main else f"meta_{split}.json")
        self._empty = set(plan.splits)

    def write(self, example: Example, data: bytes) -> int:
        self.check_instances(example)
        picture, again = upright_jpeg(example, data, self.options.jpeg_quality)
        self.notes["pictures_encoded_again"] += again
        folder, key = f"{self._next // _PER_FOLDER:05d}", f"{self._next:09d}"
        self._next += 1
        image, label = f"{self.options.image_folder}/{folder}/{key}.jpg", f"labels/{folder}/label_{key}.json"
        content = {
            "caption": self.caption(example),
            "file_name": image,
            "is_det": 0,
            "dataset_name": f"groundlake/{self._plan.name}",
            "data_id": 1,
            "annos": [self._anno(example, one, number) for number, one in enumerate(example.instances, 1)],
        }
        self._files.write(image, picture)
        self._files.write(f"{self.options.image_folder}/{folder}/{key}.json", _json(_side_file(example, content, key)))
        self._files.write(label, _json(content))
        self._lists[example.split].write(
            ("[\n" if example.split in self._empty else ",\n") + json.dumps([image, label])
        )
        self._empty.discard(example.split)
        return len(example.instances)

    def close(self) -> None:
        for split, one in self._lists.items():
            one.write("[]\n" if split in self._empty else "\n]\n")
            one.close()

    def _anno(self, example: Example, one: Instance, number: int) -> dict[str, Any]:
        box = xywh(one.box, example.size)
        if one.description is None:
            self.notes["instances_without_caption"] += 1
        return {
            "id": 0,
            "isfake": 0,
            "isreflected": 0,
            "bbox": box,
            "mask_value": number,
            "mask": {"size": [example.height, example.width], "counts": one.mask_counts},
            "pred_score": round(one.score, 4),
            "category_id": 0,
            "data_id": 0,
            "category_name": one.label,
            "is_stuff": 0,
            "is_thing": 1,
            "area": box[2] * box[3],
            "caption": one.description or one.label,  # the loader drops an empty one
        }


def _side_file(example: Example, content: dict[str, Any], key: str) -> dict[str, Any]:
    # Where these two differ the loader cuts off the border it expects img2dataset to have padded; ours has none.
    side = max(example.size)
    return {
        "key": key,
        "image_id": example.image_id,
        "caption": content["caption"],
        "url": next((one.url for one in example.sightings), None),
        "width": example.width,
        "height": example.height,
        "original_width": side,
        "original_height": side,
    }


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
