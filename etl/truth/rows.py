"""From what a file says of a picture to the rows of a stage, or to why there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from etl.lake.ids import digest
from etl.stages.contract import Result, Row
from etl.stages.ground import instance_key
from etl.truth.masks import check_mask, mask_of
from etl.truth.model import Fault, TruthImage
from etl.truth.values import ValueProblem


def result_of(stage: str, image_id: str, size: tuple[int, int], told: Sequence[TruthImage]) -> Result:
    """What a stage would have answered had it been right.

    Args:
        stage: ``tag``, ``ground`` or ``caption``.
        image_id: The picture.
        size: Its width and height in the lake, after EXIF orientation.
        told: What the file says of it: once, or more often where several of its urls are one picture.
    """
    fault = _fault(size, told)
    if fault is not None:
        return Result("failed", fault.reason, error=fault.words)
    return _RESULTS[stage](image_id, told[0])


def _fault(size: tuple[int, int], told: Sequence[TruthImage]) -> Fault | None:
    """What is wrong with a picture; the same for every stage, so that no stage shows half of it."""
    image = told[0]
    for other in told[1:]:
        if other != image:
            return Fault("truth_differs", f"{image.name} and {other.name} are one picture, of which they differ")
    if image.fault is not None:
        return image.fault
    if (image.width, image.height) != size:
        said, is_ = f"{image.width}x{image.height}", f"{size[0]}x{size[1]}"
        return Fault("size_differs", f"{image.name} has {said} pixels in the file, {is_} in the lake (upright)")
    for one in image.instances:
        try:
            check_mask(one.mask, image.width, image.height)
        except ValueProblem as problem:
            return Fault(problem.reason, f"{one.name}: {problem.words}")
    return None


def _tags(_: str, image: TruthImage) -> Result:
    if not image.tags:
        return Result("empty", "no_tags", value=[])
    rows = [{"tags": [{"tag": tag, "score": 1.0} for tag in image.tags]}]
    return Result("ok", rows={"tags": rows}, value=list(image.tags))


def _boxes(image_id: str, image: TruthImage) -> Result:
    if not image.instances:
        return Result("empty", "no_boxes", value=[])
    rows = _instances(image_id, image)
    return Result("ok", rows={"instances": rows}, value=sorted(row["instance_id"] for row in rows))


def _captions(image_id: str, image: TruthImage) -> Result:
    told: list[tuple[str | None, str | None]] = [(None, image.caption)]
    if any(one.caption for one in image.instances):  # else nobody asks for their ids
        rows = _instances(image_id, image)
        told += [(row["instance_id"], one.caption) for row, one in zip(rows, image.instances, strict=True)]
    captions = [{"instance_id": key, "caption": text, "score": None, "flag": None} for key, text in told if text]
    if not captions:
        return Result("empty", "no_captions", value=[])
    return Result("ok", rows={"captions": captions}, value=[[one["instance_id"], one["caption"]] for one in captions])


_RESULTS: dict[str, Callable[[str, TruthImage], Result]] = {
    "tag": _tags,
    "ground": _boxes,
    "caption": _captions,
}


def _instances(image_id: str, image: TruthImage) -> list[Row]:
    """The rows of the objects, in their order; a mask that the file does not give has no pixel, and is rated 0."""
    rows: list[Row] = []
    seen: Counter[str] = Counter()
    for one in image.instances:
        rle = mask_of(one.mask, image.width, image.height)
        key = instance_key(image_id, one.label, one.box, rle)
        x1, y1, x2, y2 = one.box
        rows.append(
            {
                "instance_id": digest(key, seen[key]),
                "label": one.label,
                "phrase": one.caption or one.label,
                "score": 1.0,
                "x1": x1,
                "y1": y1,
                "x2": x2,
                "y2": y2,
                "area": (x2 - x1) * (y2 - y1),
                "mask_counts": rle.counts,
                "mask_height": rle.height,
                "mask_width": rle.width,
                "mask_area": rle.area,
                "predicted_iou": 1.0 if rle.area else 0.0,
            }
        )
        seen[key] += 1
    return rows
