"""The world of the kill tests: pictures, orders over them, and the rows that every order must leave.

All of it follows from a seed, so every process knows it, and so does whoever checks the lake at the end.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from pycocotools import mask as coco
from rows import START, at, rows

from etl.ingest.shards import write_urls
from etl.lake import Lake
from etl.lake.ids import digest, digest_bytes, url_digest
from etl.lake.orders import Order, open_order

SOURCE, STAGE, SIDE = "soak", "ground", 32  # SIDE: pixels of every picture, which no one decodes
_MASK = coco.encode(np.asfortranarray(np.eye(SIDE, dtype=np.uint8)))["counts"].decode()
TABLES = ("tags", "instances", "captions", "outcomes")  # what an order commits, last one last
EPOCH_DAYS = 1000  # requests are made later than all shards were planned


@dataclass(frozen=True)
class Picture:
    """A picture of the world; ``things`` are the ids of its instances, ``slice`` its slice in every order."""

    image_id: str
    shard_id: str
    url: str
    data: bytes
    slice: int

    @property
    def things(self) -> list[str]:
        return [digest("thing", self.image_id, n) for n in range(int(self.image_id[:2], 16) % 4)]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def doomed(self) -> bool:
        """Whether somebody may ask for its takedown; most stay, so that there is work."""
        return int(self.image_id[2:4], 16) < 64

    @property
    def keys(self) -> Iterator[tuple[str, str]]:
        """Table and key of every row that an order leaves of it."""
        yield from (("tags", ""), ("outcomes", ""), ("captions", ""))
        for thing in self.things:
            yield from (("instances", thing), ("captions", thing))


@dataclass(frozen=True)
class World:
    """Shards of pictures, and endlessly many orders: order ``n`` works shard ``n`` modulo their number."""

    seed: int = 0
    shards: int = 8
    pictures: int = 24
    slice_size: int = 8
    annotators: int = 3

    @cached_property
    def content(self) -> list[list[Picture]]:
        return [
            [self._picture(shard, n, n // self.slice_size) for n in range(self.pictures)]
            for shard in range(self.shards)
        ]

    def _picture(self, shard: int, n: int, slice_: int) -> Picture:
        data = f"picture {self.seed} {shard} {n}|".encode() * 8
        url = f"http://example.test/{self.seed}/{shard}/{n}"
        return Picture(digest_bytes(data), self.shard_id(shard), url, data, slice_)

    def shard_id(self, shard: int) -> str:
        return digest("soak shard", self.seed, shard)

    def key(self, number: int) -> str:
        """The unit of an order."""
        return digest("soak order", self.seed, number)

    def shard_of(self, number: int) -> int:
        return number % self.shards

    def annotator_id(self, number: int) -> str:
        """Several requests share an annotator, so that the visible outcome must be chosen."""
        return digest("soak annotator", number // self.shards % self.annotators)

    def open(self, lake: Lake, number: int) -> Order:
        """The work order of a number, opened as a stage opens it."""
        header = {
            "stage": STAGE,
            "annotator_id": self.annotator_id(number),
            "request": f"soak {number // self.shards}",
            "requested_at": at(24 * EPOCH_DAYS + number).isoformat(),
            "shard": self.shard_id(self.shard_of(number)),
            "upstream": {},
        }
        items = [{"image_id": p.image_id, "shard_id": p.shard_id} for p in self.content[self.shard_of(number)]]
        return open_order(lake, self.key(number), header, lambda: items)

    def tables(self, number: int, slice_: int, token: str, gone: frozenset[str]) -> dict[str, pa.Table]:
        """The rows that one attempt makes of one slice; ``token`` is the attempt's own, in every row of it.

        Args:
            number: The order.
            slice_: The slice.
            token: Stands for the hardware: what a twin computes differs.
            gone: Pictures that were taken down, which fail.
        """
        unit, random = self.key(number), np.random.default_rng()
        made: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        for picture in self.content[self.shard_of(number)]:
            if picture.slice != slice_:
                continue
            common = {"image_id": picture.image_id, "shard_id": picture.shard_id}
            common |= {"annotator_id": self.annotator_id(number), "unit": unit}
            failed = picture.image_id in gone
            made["outcomes"].append(
                common
                | {"stage": STAGE, "requested_at": at(24 * EPOCH_DAYS + number), "input_digest": picture.image_id}
                | dict(zip(("status", "reason"), _status(picture, failed), strict=True))
                | {"value_digest": token, "seconds": float(random.random())}
            )
            if failed:
                continue
            made["tags"].append(common | {"tags": [{"tag": token, "score": float(random.random())}]})
            made["captions"].append(common | {"caption": token, "score": -float(random.random())})
            for thing in picture.things:
                fitting = {"x2": SIDE - 1.0, "y2": SIDE - 1.0, "mask_height": SIDE, "mask_width": SIDE}
                box = fitting | {
                    "x1": float(random.random()),
                    "mask_counts": _MASK,
                    "mask_area": SIDE,
                    "area": float(SIDE),
                }
                made["instances"].append(common | box | {"instance_id": thing, "label": token})
                made["captions"].append(common | {"instance_id": thing, "caption": token})
        return {name: rows(name, *given) for name, given in made.items()}

    def prepare(self, lake: Lake, *, annotators: bool = True) -> None:
        """Ingest all pictures, with bytes that can be checked against their ids, and register the annotators."""
        for shard, pictures in enumerate(self.content):
            self._ingest(lake, shard, pictures)
        if annotators:
            self._register(lake)

    def _register(self, lake: Lake) -> None:
        for n in range(self.annotators):
            annotator = self.annotator_id(n * self.shards)
            row = {"annotator_id": annotator, "stage": STAGE, "model": f"m{n}", "kind": "model", "untrained": True}
            lake.append("annotators", [row | {"record": "{}", "created_at": START}], digest("annotator", annotator))
        now = {"stage": STAGE, "source": SOURCE, "annotator_id": self.annotator_id(0), "promoted_at": START}
        lake.append("current", [now | {"reason": "first"}], digest("current", SOURCE))

    def _ingest(self, lake: Lake, shard: int, pictures: Sequence[Picture]) -> None:
        shard_id, unit = self.shard_id(shard), digest("ingest", self.shard_id(shard), 1)
        tar, urls = self.tar_key(shard), f"urls/{SOURCE}/{shard_id}.parquet"
        content, offsets = _tar(pictures)
        lake.store.put(tar, content)
        write_urls(lake, urls, pa.table({"url": [p.url for p in pictures], "caption": [None] * len(pictures)}))
        row = {"shard_id": shard_id, "source": SOURCE, "attempt": 1, "urls": urls, "n_urls": len(pictures)}
        lake.append("shards", [row | {"download": "{}", "planned_at": at(shard), "request": "soak"}], digest(unit))
        own: list[dict[str, Any]] = [{"image_id": p.image_id, "shard_id": shard_id, "unit": unit} for p in pictures]
        sizes = {"width": SIDE, "height": SIDE, "orientation": 1, "format": "jpeg", "phash": "0" * 16}
        stored = {"attempt": 1, "tar": tar, "ingested_at": at(shard), **sizes}
        found = {"source": SOURCE, "caption": None}
        tried = {"attempt": 1, "status": "ok", "tried_at": at(shard)}
        both = list(zip(own, pictures, strict=True))
        made: Mapping[str, list[dict[str, Any]]] = {
            "images": [o | stored | {"offset": offsets[p.image_id], "length": len(p.data)} for o, p in both],
            "sightings": [o | found | {"url": p.url, "source_sha256": p.sha256} for o, p in both],
            "downloads": [o | tried | {"url": p.url, "url_sha256": url_digest(p.url)} for o, p in both],
        }
        for name, given in made.items():
            lake.append(name, rows(name, *given).to_pylist(), unit)

    def tar_key(self, shard: int) -> str:
        return f"raw/{SOURCE}/{self.shard_id(shard)}.tar"

    def wrong_bytes(self, lake: Lake, gone: Collection[str]) -> list[str]:
        """Pictures whose bytes are not what they should be: zeros for those that are gone, else their own."""
        wrong = []
        for shard, pictures in enumerate(self.content):
            stored, offsets = lake.store.read(self.tar_key(shard)), _tar(pictures)[1]
            for p in pictures:
                start = offsets[p.image_id]
                wanted = bytes(len(p.data)) if p.image_id in gone else p.data
                if stored[start : start + len(p.data)] != wanted:
                    wrong.append(f"{p.image_id} at {self.tar_key(shard)}:{start}, gone: {p.image_id in gone}")
        return wrong

    def expected(self) -> pa.Table:
        """Every row that an order leaves of every picture: shard, picture, slice, table and key."""
        found = [
            {"shard_id": p.shard_id, "image_id": p.image_id, "slice": p.slice, "name": name, "key": key}
            for pictures in self.content
            for p in pictures
            for name, key in p.keys
        ]
        return pa.Table.from_pylist(found)


def _status(picture: Picture, failed: bool) -> tuple[str, str | None]:
    if failed:
        return "failed", "taken_down"
    return ("ok", None) if picture.things else ("empty", "no_boxes")


def _tar(pictures: Sequence[Picture]) -> tuple[bytes, dict[str, int]]:
    """A tar of pictures, and where in it the bytes of each begin."""
    buffer, offsets = io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, picture in enumerate(pictures):
            info = tarfile.TarInfo(f"{number:09d}.jpg")
            info.size = len(picture.data)
            offsets[picture.image_id] = tar.offset + 512
            tar.addfile(info, io.BytesIO(picture.data))
    return buffer.getvalue(), offsets
