"""One line of JSON per image with everything the lake says about it."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from pydantic import Field

from etl.manifests.example import Example, Instance
from etl.manifests.files import Files, StreamedFile
from etl.manifests.formats.contract import Format, FormatOptions, Plan
from etl.manifests.formats.pictures import upright


class JsonlOptions(FormatOptions):
    """Options of the format."""

    pictures: bool = Field(False, description="Also write the pictures, as images/<2 digits>/<image_id>.<extension>")


class Jsonl(Format):
    """``<split>.jsonl``. Boxes are xyxy in pixels after EXIF orientation.

    An image needs no annotations: ``outcomes`` says which stages it has been through.
    """

    name: ClassVar[str] = "jsonl"
    VERSION: ClassVar[int] = 1
    Options: ClassVar[type[FormatOptions]] = JsonlOptions
    requires: ClassVar[tuple[str, ...]] = ()
    options: JsonlOptions

    @property
    def needs_pictures(self) -> bool:
        return self.options.pictures

    def open(self, files: Files, plan: Plan) -> None:
        self._files = files
        self._lists: dict[str, StreamedFile] = {split: files.stream(f"{split}.jsonl") for split in plan.splits}

    def write(self, example: Example, data: bytes) -> int:
        self.check_instances(example)
        line = _line(example, self.caption(example))
        if self.options.pictures:
            extension, picture, again = upright(example, data, self.options.jpeg_quality)
            self.notes["pictures_encoded_again"] += again
            line["file_name"] = f"images/{example.image_id[:2]}/{example.image_id}.{extension}"
            self._files.write(line["file_name"], picture)
        self._lists[example.split].write(json.dumps(line, ensure_ascii=False) + "\n")
        return len(example.instances)

    def close(self) -> None:
        for one in self._lists.values():
            one.close()


def _line(example: Example, caption: str) -> dict[str, Any]:
    return {
        "image_id": example.image_id,
        "source": example.source,
        "split": example.split,
        "width": example.width,
        "height": example.height,
        "orientation": example.orientation,
        "format": example.format,
        "stored": {"tar": example.tar, "offset": example.offset, "length": example.length},
        "caption": caption,
        "generated_caption": example.caption,
        "sightings": [vars(one) for one in example.sightings],
        "tags": [{"tag": tag, "score": score} for tag, score in example.tags],
        "outcomes": dict(example.outcomes),
        "instances": [_instance(example, one) for one in example.instances],
    }


def _instance(example: Example, one: Instance) -> dict[str, Any]:
    return {
        "instance_id": one.instance_id,
        "label": one.label,
        "phrase": one.phrase,
        "score": one.score,
        "box": list(one.box),
        "mask": {"size": [example.height, example.width], "counts": one.mask_counts},
        "mask_area": one.mask_area,
        "caption": one.caption,
        "caption_flag": one.flag,
    }
