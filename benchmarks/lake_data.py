"""Synthetic rows of a lake of any size, for ``benchmarks/lake.py``: ids, outcomes, and masks of random shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from pycocotools import mask as coco

from etl.lake import Lake
from etl.lake.ids import digest
from etl.lake.parts import add_action, write_part
from etl.lake.schemas import TABLES

SHARD = 10_000  # images; also those of one work order
PART = 50  # shards whose rows one file holds, in tables that are not what is measured
GROUNDED, CHANGED = 9_500, 100  # of a shard: images with an outcome of ground, and of them with an older input
STALE = SHARD - GROUNDED + CHANGED  # of a shard: images that planning must find
HEIGHT, WIDTH = 768, 1024
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = pa.array([f"label {n}" for n in range(500)])


def annotator_id(stage: str) -> str:
    """The annotator that made the rows of a stage."""
    return digest("benchmark annotator", stage)


def shard_id(shard: int) -> str:
    """The id of a shard."""
    return digest("benchmark shard", shard)


def ids(kind: str, shard: int, count: int = SHARD) -> pa.Array:
    """Random ids of 32 hex digits, the same for the same kind and shard."""
    random = np.random.default_rng([shard, *kind.encode()])
    text = random.bytes(16 * count).hex().encode()
    offsets = np.arange(0, 32 * count + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(text)])


def table(name: str, count: int, **given: object) -> pa.Table:
    """Rows of a table from arrays or single values; columns that are not given are null."""
    columns = [
        _column(given[f.name], f.type, count) if f.name in given else pa.nulls(count, f.type)
        for f in TABLES[name].schema
    ]
    return pa.table(columns, schema=TABLES[name].schema)


def _column(value: object, type_: pa.DataType, count: int) -> pa.Array:
    if isinstance(value, pa.Array | pa.ChunkedArray | np.ndarray):
        return pa.array(value, type_) if isinstance(value, np.ndarray) else value.cast(type_)
    return pa.repeat(pa.scalar(value, type_), count)


def outcomes(stage: str, shard: int, unit: str, start: int = 0, stop: int = SHARD) -> pa.Table:
    """Outcomes of a stage for images ``start`` to ``stop`` of a shard; the last ``CHANGED`` have an older input."""
    images, tagged = ids("image", shard), ids("tag", shard)
    inputs = images if stage == "tag" else pa.concat_arrays([tagged[: GROUNDED - CHANGED], ids("old", shard)])
    made = tagged if stage == "tag" else ids(stage, shard)
    common = {"shard_id": shard_id(shard), "stage": stage, "annotator_id": annotator_id(stage), "unit": unit}
    said = {"requested_at": NOW, "status": "ok", "retryable": False, "seconds": 0.01}
    own = {"image_id": images, "input_digest": inputs, "value_digest": made}
    sliced = {name: column[start:stop] for name, column in own.items()}
    return table("outcomes", stop - start, **common, **said, **sliced)


def instances(shard: int, unit: str, start: int, stop: int, per_image: int, masks: Masks) -> pa.Table:
    """Instances of images ``start`` to ``stop`` of a shard."""
    count = (stop - start) * per_image
    random = np.random.default_rng([shard, start])
    images = ids("image", shard)[start:stop].take(np.repeat(np.arange(stop - start), per_image))
    counts, areas = masks.pick(random, count)
    left, top = random.uniform(0, WIDTH - 20, count), random.uniform(0, HEIGHT - 20, count)
    right, bottom = random.uniform(left + 8, WIDTH), random.uniform(top + 8, HEIGHT)
    label = LABELS.take(random.zipf(1.3, count) % len(LABELS))
    return table(
        "instances",
        count,
        image_id=images,
        shard_id=shard_id(shard),
        instance_id=ids(f"instance {start}", shard, count),
        annotator_id=annotator_id("ground"),
        unit=unit,
        label=label,
        phrase=label,
        score=random.uniform(0.25, 1, count),
        **{"x1": left, "y1": top, "x2": right, "y2": bottom, "area": (right - left) * (bottom - top)},
        **{"mask_counts": counts, "mask_height": HEIGHT, "mask_width": WIDTH, "mask_area": areas},
        predicted_iou=random.uniform(0.5, 1, count),
    )


class Masks:
    """Masks of random smooth shapes with a rough edge, 3 to 50 % of the image's height across, as COCO RLE."""

    def __init__(self, count: int) -> None:
        random = np.random.default_rng(0)
        made = [coco.frPyObjects([_outline(random)], HEIGHT, WIDTH)[0] for _ in range(count)]
        self.lengths = np.array([len(one["counts"]) for one in made])
        self._counts = pa.array([one["counts"].decode() for one in made])
        self._areas = np.array([int(coco.area(one)) for one in made])

    def pick(self, random: np.random.Generator, count: int) -> tuple[pa.Array, np.ndarray]:
        """Counts and areas of random masks; none twice while there are enough, since real ones do not repeat."""
        chosen = random.choice(len(self._areas), count, replace=count > len(self._areas))
        return self._counts.take(chosen), self._areas[chosen]


def _outline(random: np.random.Generator) -> list[float]:
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    waves = [random.normal() * 0.35 / k * np.cos(k * angle + random.uniform(0, 6.3)) for k in range(2, 9)]
    radius = np.clip(1 + np.sum(waves, axis=0), 0.25, None) * (1 + random.normal(size=96) * 0.012)
    radius *= np.exp(random.uniform(np.log(0.03), np.log(0.5))) * HEIGHT / 2
    aspect, x, y = random.uniform(0.5, 2) ** 0.5, random.uniform(0, WIDTH), random.uniform(0, HEIGHT)
    across = np.clip(x + radius * aspect * np.cos(angle), 0, WIDTH - 1)
    down = np.clip(y + radius / aspect * np.sin(angle), 0, HEIGHT - 1)
    return [float(v) for v in np.stack([across, down], 1).ravel()]


def fill(lake: Lake, shards: int, stages: Sequence[str]) -> None:
    """Ingest ``shards`` shards and give their images outcomes of ``stages``, in large files."""
    for start in range(0, shards, PART):
        group = range(start, min(start + PART, shards))
        for name, parts in _ingested(group).items():
            _add(lake, name, pa.concat_tables(parts), digest("fill", name, start))
        for stage in stages:
            stop = SHARD if stage == "tag" else GROUNDED
            parts = [outcomes(stage, n, digest("fill order", stage, n), 0, stop) for n in group]
            _add(lake, "outcomes", pa.concat_tables(parts), digest("fill", stage, start))
    for stage in ("tag", "ground"):
        made = {"annotator_id": annotator_id(stage), "stage": stage, "model": stage, "kind": "model"}
        lake.append("annotators", [made | {"untrained": True, "record": "{}", "created_at": NOW}], digest("a", stage))
        promoted = {"stage": stage, "source": "s", "annotator_id": annotator_id(stage), "promoted_at": NOW}
        lake.append("current", [promoted | {"reason": "first"}], digest("current", stage))


def _ingested(group: range) -> dict[str, list[pa.Table]]:
    made: dict[str, list[pa.Table]] = {"shards": [], "images": [], "downloads": []}
    for n in group:
        shard, unit, images = shard_id(n), digest("ingest", n), ids("image", n)
        row = {"source": "s", "urls": "u", "n_urls": SHARD, "download": "{}", "planned_at": NOW, "request": "r"}
        made["shards"].append(table("shards", 1, shard_id=shard, attempt=1, **row))
        common = {"shard_id": shard, "attempt": 1, "unit": unit, "image_id": images}
        place = {"tar": f"raw/{shard}.tar", "offset": np.arange(SHARD) * 100_000, "length": 90_000, "ingested_at": NOW}
        look = {"width": WIDTH, "height": HEIGHT, "orientation": 1, "format": "jpeg", "phash": "0" * 16}
        made["images"].append(table("images", SHARD, **common, **place, **look))
        urls = pa.array([f"http://example.test/{n}/{i}.jpg" for i in range(SHARD)])
        tried = {"url": urls, "url_sha256": ids("url", n), "status": "ok", "bytes": 90_000, "tried_at": NOW}
        made["downloads"].append(table("downloads", SHARD, **common, **tried))
    return made


def _add(lake: Lake, name: str, rows: pa.Table, key: str) -> None:
    lake.commit(name, key, [add_action(lake.store, write_part(lake.store, name, rows, key, "00000"))])


def slices(size: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of every slice of an order over the images that are grounded."""
    for start in range(0, GROUNDED, size):
        yield start, min(start + size, GROUNDED)
