"""One JSON per image with the picture inside, as InstanceDiffusion's ``JsonDataset`` reads it, and ``train.txt``.

Its loader has traps that this format keeps clear of; each is named where it is met.
"""

from __future__ import annotations

import base64
import json
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from etl.errors import DataError
from etl.manifests.example import Example, Instance, Vector
from etl.manifests.files import Files, StreamedFile
from etl.manifests.formats.contract import DroppedError, Format, FormatOptions, Plan
from etl.manifests.formats.pictures import encode_mask, jpeg, upright_jpeg, xywh
from etl.viewer.pictures import decode

# The loader scales masks a second time unless the short side is 512 (or a multiple of 1024): boxes stay right, masks
# are shifted or the worker dies.
SHORT_SIDE = 512


class InstanceDiffusionOptions(FormatOptions):
    """Options of the format."""

    min_instances: int = Field(1, ge=0)
    paths: Literal["relative", "absolute"] = Field(
        "relative", description="Of the lines of train.txt: relative ones move with the folder and need root_dir"
    )
    missing_embedding: Literal["drop_image", "drop_instance"] = Field(
        "drop_image", description="What goes when a label or caption has no embedding; counted either way"
    )
    max_aspect: float = Field(8.0, gt=1, description="Long side / short side above which an image is dropped")


class InstanceDiffusion(Format):
    """``data/<2 digits>/<image_id>.json`` and one ``<split>.txt`` per split."""

    name: ClassVar[str] = "instancediffusion"
    VERSION: ClassVar[int] = 1
    Options: ClassVar[type[FormatOptions]] = InstanceDiffusionOptions
    needs_embeddings: ClassVar[bool] = True
    options: InstanceDiffusionOptions

    def open(self, files: Files, plan: Plan) -> None:
        self._files, self._plan = files, plan
        self._lists: dict[str, StreamedFile] = {split: files.stream(f"{split}.txt") for split in plan.splits}
        self._width: int | None = None

    def write(self, example: Example, data: bytes) -> int:
        if max(example.size) > self.options.max_aspect * min(example.size):
            raise DroppedError("aspect_ratio")
        chosen = [one for one in example.instances if self._has_embeddings(one)]
        if len(chosen) < len(example.instances):
            if self.options.missing_embedding == "drop_image":
                raise DroppedError("no_embedding")
            self.notes["instances_without_embedding"] += len(example.instances) - len(chosen)
        if len(chosen) < self.options.min_instances:
            raise DroppedError("too_few_instances")
        size, picture = self._picture(example, data)
        annos = [self._anno(example, one, size, number) for number, one in enumerate(chosen, 1)]
        if len(annos) == 1:
            annos.append(_dummy(annos[0], size))
            self.notes["dummy_annotations"] += 1
        content = {
            "caption": self.caption(example),
            "file_name": f"{example.image_id}.jpg",
            "is_det": 0,
            "image": base64.b64encode(picture).decode(),
            "dataset_name": f"groundlake/{self._plan.name}",
            "data_id": 1,
            "width": size[0],
            "height": size[1],
            "annos": annos,
        }
        name = f"data/{example.image_id[:2]}/{example.image_id}.json"
        self._files.write(name, json.dumps(content, ensure_ascii=False).encode())
        line = str(self._files.final.resolve() / name) if self.options.paths == "absolute" else name
        self._lists[example.split].write(line + "\n")
        return len(chosen)

    def close(self) -> None:
        for one in self._lists.values():
            one.close()

    def _has_embeddings(self, one: Instance) -> bool:
        return one.label_vector is not None and (one.description is None or one.caption_vector is not None)

    def _picture(self, example: Example, data: bytes) -> tuple[tuple[int, int], bytes]:
        if min(example.size) == SHORT_SIDE:
            encoded, again = upright_jpeg(example, data, self.options.jpeg_quality)
            self.notes["pictures_encoded_again"] += again
            return example.size, encoded
        scale = SHORT_SIDE / min(example.size)
        size = (max(SHORT_SIDE, round(example.width * scale)), max(SHORT_SIDE, round(example.height * scale)))
        resized = decode(example.image_id, data).resize(size, Image.Resampling.BICUBIC)
        self.notes["pictures_resampled"] += 1
        return size, jpeg(resized, self.options.jpeg_quality)

    def _anno(self, example: Example, one: Instance, size: tuple[int, int], number: int) -> dict[str, Any]:
        across, down = size[0] / example.width, size[1] / example.height
        box = xywh((one.box[0] * across, one.box[1] * down, one.box[2] * across, one.box[3] * down), size)
        mask = example.mask(one)
        if size != example.size:
            grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
            mask = np.asarray(grey) >= 128
        anno: dict[str, Any] = {
            "id": 0,
            "isfake": 0,
            "isreflected": 0,
            "bbox": box,
            "mask_value": number,
            "mask": encode_mask(mask),  # of every instance: the loader mixes them up when one lacks it
            "pred_score": round(one.score, 4),
            "category_id": 0,
            "data_id": 0,
            "category_name": one.label,
            "text_embedding_before": self._base64(one.label_vector),
            "is_stuff": 0,
            "is_thing": 1,
            "area": box[2] * box[3],
            "caption": one.description or "",
        }
        if one.description is not None:  # the loader dies of an empty text here; without the key it takes the label's
            anno["blip_clip_embeddings"] = self._base64(one.caption_vector)
        else:
            self.notes["instances_without_caption"] += 1
        return anno

    def _base64(self, vector: Vector | None) -> str:
        if vector is None:
            raise DroppedError("no_embedding")
        self._width = self._width or len(vector)
        if len(vector) != self._width:
            raise DataError(
                f"embeddings of {self._width} and of {len(vector)} numbers in one manifest: the trainer cannot stack",
                remedy="choose images of one source, or promote the same embed model for all",
            )
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _dummy(anno: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """A second, one-pixel annotation: the loader squeezes away the axis of a single mask, and all become zero.

    It lies below the loader's limit of 1 % of the area, so training never sees it.
    """
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[0, 0] = True
    extra = {"bbox": [0, 0, 1, 1], "mask_value": 2, "mask": encode_mask(mask), "pred_score": 0.0, "area": 1}
    dummy = {**anno, **extra, "category_name": "", "caption": ""}
    dummy.pop("blip_clip_embeddings", None)
    return dummy
