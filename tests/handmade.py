"""A lake made by hand, row by row, whose pictures, boxes and masks are known."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from etl.lake import Lake
from etl.lake.ids import digest, digest_bytes, url_digest
from etl.lake.texts import caption_for_embedding

START = datetime(2026, 1, 1, tzinfo=UTC)
COLOURS = {"dog": (150, 90, 40), "box": (40, 60, 200), "ball": (210, 40, 40)}
WIDTH = 8  # of the embeddings


@dataclass(frozen=True)
class Thing:
    """A rectangle in a picture: its mask is exactly its box (xyxy, whole pixels)."""

    label: str
    box: tuple[int, int, int, int]
    caption: str | None = None
    flag: str | None = None
    score: float = 0.5


@dataclass(frozen=True)
class Picture:
    """One picture; ``size`` is that after orientation."""

    size: tuple[int, int] = (640, 480)
    things: Sequence[Thing] = ()
    orientation: int = 1
    format: str = "JPEG"
    source_caption: str | None = "as found on the web"
    caption: str | None = "a generated caption"
    seed: int = 0

    def upright(self) -> Image.Image:
        """The picture as a person should see it."""
        background = np.random.default_rng(self.seed).integers(100, 150, 3, dtype=np.uint8)
        picture = Image.new("RGB", self.size, tuple(int(v) for v in background))
        pencil = ImageDraw.Draw(picture)
        for thing in self.things:
            x1, y1, x2, y2 = thing.box
            pencil.rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLOURS.get(thing.label, (0, 0, 0)))
        return picture

    def encoded(self) -> bytes:
        """The stored bytes: pixels turned so that the orientation flag turns them back."""
        buffer, picture = io.BytesIO(), self.upright()
        exif = Image.Exif()
        if self.orientation == 6:  # readers turn it 90 degrees clockwise
            picture = picture.transpose(Image.Transpose.ROTATE_90)
            exif[0x0112] = 6
        picture.save(buffer, self.format, exif=exif, **({"quality": 95} if self.format == "JPEG" else {}))
        return buffer.getvalue()


@dataclass
class Handmade:
    """Writes rows into a lake; ``ids`` are the image ids in the order the pictures were given."""

    lake: Lake
    ids: list[str] = field(default_factory=list)
    shards: int = 0

    def add(self, *pictures: Picture, source: str = "hand", failed: Sequence[str] = (), settle: bool = True) -> str:
        """One shard of pictures, and one failed url per class in ``failed``; returns the shard id."""
        number, self.shards = self.shards, self.shards + 1
        shard, unit = digest("shard", source, number), digest("unit", source, number)
        tar, rows = self._tar(source, shard, pictures), []
        now = START + timedelta(hours=number)
        shard_row = {"shard_id": shard, "source": source, "attempt": 1, "urls": f"raw/{source}/{shard}.parquet"}
        shard_row |= {"n_urls": len(pictures) + len(failed), "download": "{}", "planned_at": now, "request": "hand"}
        self.lake.append("shards", [shard_row], unit + "s")
        images, sightings = [], []
        for (image_id, offset, length), picture in zip(tar[1], pictures, strict=True):
            url = f"http://example.test/{source}/{number}/{len(rows)}"
            images.append(
                {"image_id": image_id, "shard_id": shard, "attempt": 1, "unit": unit, "tar": tar[0], "offset": offset}
                | {"length": length, "width": picture.size[0], "height": picture.size[1], "ingested_at": now}
                | {"orientation": picture.orientation, "format": picture.format.lower(), "phash": "0" * 16}
            )
            sightings.append(
                {"image_id": image_id, "shard_id": shard, "unit": unit, "url": url, "source": source}
                | {"caption": picture.source_caption, "source_sha256": image_id}
            )
            rows.append(_download(url, shard, unit, now, image_id=image_id))
        for kind in failed:
            rows.append(_download(f"http://example.test/{source}/{number}/{len(rows)}", shard, unit, now, kind=kind))
        self.lake.append("images", images, unit)
        self.lake.append("sightings", sightings, unit)
        if settle:
            self.lake.append("downloads", rows, unit)
        self.ids += [image_id for image_id, _, _ in tar[1]]
        return shard

    def annotate(
        self, shard: str, *pictures: Picture, embed: bool = True, untrained: bool = False, run: int = 0
    ) -> None:
        """Annotations of all four stages for the pictures of a shard, in the order they were added."""
        ids = self._ids_of(shard)
        source = self._source_of(shard)
        for stage in ("tag", "ground", "caption", *(["embed"] if embed else [])):
            self._register(stage, source, untrained)
            unit = digest("order", stage, shard, run)
            for table, rows in _rows(stage, ids, pictures).items():
                self.lake.append(table, [_keyed(row, table, shard, stage, unit) for row in rows], unit)
            self.outcomes(stage, shard, [_outcome(stage, picture) for picture in pictures], run=run)

    def outcomes(self, stage: str, shard: str, status: Sequence[tuple[str, str | None]], *, run: int = 0) -> None:
        """Status and reason per image of the shard."""
        unit = digest("order", stage, shard, run)
        rows = [
            {"image_id": image_id, "shard_id": shard, "stage": stage, "annotator_id": annotator_id(stage), "unit": unit}
            | {"requested_at": START + timedelta(days=1 + run), "status": state, "reason": reason, "error": reason}
            | {"retryable": False, "input_digest": "", "value_digest": "", "seconds": 0.1}
            for image_id, (state, reason) in zip(self._ids_of(shard), status, strict=True)
        ]
        self._register(stage, self._source_of(shard), False)
        self.lake.append("outcomes", rows, unit)

    def take_down(self, image_id: str) -> None:
        row = {"kind": "image_id", "value": image_id, "reason": "asked", "requested_at": START}
        self.lake.append("takedowns", [row], digest("takedown", image_id))

    def _register(self, stage: str, source: str, untrained: bool) -> None:
        row = {"annotator_id": annotator_id(stage), "stage": stage, "model": f"{stage}-model", "kind": "model"}
        row |= {"untrained": untrained, "record": "{}", "created_at": START}
        self.lake.append("annotators", [row], digest("annotator", stage))
        now = {"stage": stage, "source": source, "annotator_id": annotator_id(stage), "promoted_at": START}
        self.lake.append("current", [now | {"reason": "first"}], digest("current", stage, source))

    def _tar(self, source: str, shard: str, pictures: Sequence[Picture]) -> tuple[str, list[tuple[str, int, int]]]:
        key, buffer, members = f"raw/{source}/{shard}/00001.tar", io.BytesIO(), []
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for number, picture in enumerate(pictures):
                data = picture.encoded()
                info = tarfile.TarInfo(f"{number:04d}.{picture.format.lower()}")
                info.size = len(data)
                members.append((digest_bytes(data), tar.offset + 512, len(data)))
                tar.addfile(info, io.BytesIO(data))
        self.lake.store.put(key, buffer.getvalue())
        return key, members

    def _ids_of(self, shard: str) -> list[str]:
        rows = self.lake.table("images").to_pyarrow_table(filters=[("shard_id", "=", shard)]).to_pylist()
        return [row["image_id"] for row in sorted(rows, key=lambda row: row["offset"])]

    def _source_of(self, shard: str) -> str:
        rows = self.lake.table("shards").to_pyarrow_table().to_pylist()
        return next(row["source"] for row in rows if row["shard_id"] == shard)


def annotator_id(stage: str) -> str:
    return digest("annotator of", stage)


def vector(text: str) -> np.ndarray[Any, Any]:
    """The embedding that stands for a text here."""
    seed = int(digest_bytes(text.encode())[:8], 16)
    return np.random.default_rng(seed).normal(size=WIDTH).astype("<f4")


def rectangle(size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray[Any, Any]:
    """A boolean mask ``(height, width)`` that is one rectangle."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    x1, y1, x2, y2 = (round(edge) for edge in box)
    mask[y1:y2, x1:x2] = True
    return mask


def _download(url: str, shard: str, unit: str, now: datetime, *, image_id: str | None = None, kind: str = "") -> Any:
    row = {"url": url, "url_sha256": url_digest(url), "shard_id": shard, "attempt": 1, "unit": unit, "tried_at": now}
    return row | {"status": "ok" if image_id else "failed", "error_class": kind or None, "image_id": image_id}


def _outcome(stage: str, picture: Picture) -> tuple[str, str | None]:
    if picture.things or stage == "tag":
        return "ok", None
    return "empty", "no_boxes"


def _keyed(row: dict[str, Any], table: str, shard: str, stage: str, unit: str) -> dict[str, Any]:
    row |= {"annotator_id": annotator_id(stage), "unit": unit}
    return row if table == "embeddings" else row | {"shard_id": shard}


def _rows(stage: str, ids: Sequence[str], pictures: Sequence[Picture]) -> dict[str, list[dict[str, Any]]]:
    pairs = list(zip(ids, pictures, strict=True))
    if stage == "tag":
        tags = [[{"tag": label, "score": 0.9} for label in sorted({t.label for t in p.things})] for p in pictures]
        return {"tags": [{"image_id": image_id, "tags": tag} for image_id, tag in zip(ids, tags, strict=True)]}
    if stage == "ground":
        return {"instances": [_instance(i, p, n, t) for i, p in pairs for n, t in enumerate(p.things)]}
    if stage == "caption":
        whole = [{"image_id": i, "caption": p.caption, "score": -0.5} for i, p in pairs if p.caption]
        crops = [
            {"image_id": i, "instance_id": instance_id(i, n), "caption": t.caption, "score": -0.5, "flag": t.flag}
            for i, p in pairs
            for n, t in enumerate(p.things)
            if t.caption
        ]
        return {"captions": whole + crops}
    things = [thing for picture in pictures for thing in picture.things]
    texts = {t.label for t in things} | {caption_for_embedding(t.label, t.caption) for t in things if t.caption}
    return {
        "embeddings": [
            {"text_sha256": digest_bytes(text.encode()), "text": text, "vector": vector(text).tolist()}
            for text in sorted(texts)
        ]
    }


def instance_id(image_id: str, number: int) -> str:
    return digest("instance", image_id, number)


def _instance(image_id: str, picture: Picture, number: int, thing: Thing) -> dict[str, Any]:
    rle = coco.encode(np.asfortranarray(rectangle(picture.size, thing.box), dtype=np.uint8))
    x1, y1, x2, y2 = thing.box
    area = (x2 - x1) * (y2 - y1)
    return (
        {"image_id": image_id, "instance_id": instance_id(image_id, number), "label": thing.label}
        | {"phrase": thing.label, "score": thing.score, "x1": x1, "y1": y1, "x2": x2, "y2": y2, "area": area}
        | {"mask_counts": rle["counts"].decode(), "mask_height": picture.size[1], "mask_width": picture.size[0]}
        | {"mask_area": area, "predicted_iou": 0.9}
    )


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def copy_of(made: Handmade, lake: Lake) -> Handmade:
    """The same rows and tars in another, empty lake: uris inside a lake are relative, so its folder is copied."""
    shutil.copytree(made.lake.uri, lake.uri, dirs_exist_ok=True)
    return Handmade(lake, list(made.ids), made.shards)
