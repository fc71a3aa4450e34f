"""A lake in which everything is as it should be: a downloaded shard, all four stages over it, orders, a manifest.

Made through the very functions that stages use, so that orders and slice records are real; the pictures are bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rows import at, rows

from etl.lake import Lake, Snapshot
from etl.lake.ids import digest, digest_bytes, url_digest
from etl.lake.orders import commit_order, finish_slice, open_order
from etl.lake.parts import Part, add_action, table_key
from etl.lake.units import last_table

IMAGES = 12  # with slices of ten, two slices
STAGES = ("tag", "ground", "caption", "embed")


@dataclass
class Sound:
    """What lies in the lake.

    Attributes:
        lake: The lake.
        source: Name of the source.
        ids: Its pictures, in the order of the tar.
        tar: Key of the tar.
        units: Key of the order per stage, and of the download under ``ingest``.
    """

    lake: Lake
    source: str = "web"
    ids: list[str] = field(default_factory=list)
    tar: str = ""
    units: dict[str, str] = field(default_factory=dict)

    @property
    def shard(self) -> str:
        return digest("shard", self.source)

    def download(self, *, finish: bool = True, commit: bool = True) -> None:
        """A shard of pictures, and one url that failed."""
        pictures = [f"picture {n} of {self.source} ".encode() * (n + 2) for n in range(IMAGES)]
        self.ids = [digest_bytes(data) for data in pictures]
        self.tar = f"raw/{self.source}/{self.shard}-1-abc.tar"
        self.units["ingest"] = unit = digest("ingest", self.shard, 1)
        urls, urls_key = [f"http://{self.source}.test/{n}" for n in range(IMAGES + 1)], f"urls/{self.source}/{unit}"
        self.lake.store.put(urls_key, json.dumps(urls).encode())
        shard = {"shard_id": self.shard, "source": self.source, "attempt": 1, "urls": urls_key, "n_urls": len(urls)}
        self.append("shards", shard)
        offsets, content = [], b""
        for data in pictures:
            content += bytes(512)
            offsets.append(len(content))
            content += data
        self.lake.store.put(self.tar, content + bytes(1024))
        own = {"shard_id": self.shard, "unit": unit}
        spans = list(zip(self.ids, offsets, map(len, pictures), strict=True))
        tables = {
            "images": [
                own | {"image_id": i, "attempt": 1, "tar": self.tar, "offset": o, "length": n} for i, o, n in spans
            ],
            "sightings": [
                own | {"image_id": i, "url": u, "source": self.source} for i, u in zip(self.ids, urls, strict=False)
            ],
            "downloads": [own | {"url": u, "url_sha256": url_digest(u), "attempt": 1} for u in urls],
        }
        for row, image_id in zip(tables["downloads"], [*self.ids, None], strict=True):
            row |= {"image_id": image_id, "status": "ok" if image_id else "failed"}
        self.work(unit, "ingest", [{"urls": urls_key}], lambda _: tables, finish=finish, commit=commit)

    def annotate(self, stage: str, *, run: str = "run", finish: bool = True, commit: bool = True) -> str:
        """An order of a stage over all pictures; returns its key."""
        who = digest("annotator", stage)
        self.append("annotators", {"annotator_id": who, "stage": stage, "record": "{}"})
        self.append("current", {"stage": stage, "source": self.source, "annotator_id": who})
        unit = self.units[stage] = digest(stage, self.source, run)
        items = [{"image_id": image_id} for image_id in self.ids]
        row = {"unit": unit, "stage": stage, "annotator_id": who, "shards": [self.shard]}
        self.append("orders", row | {"items": f"units/{unit}/items-abc.json", "n_items": len(items)})
        own = {"shard_id": self.shard, "annotator_id": who, "unit": unit}
        self.work(unit, stage, items, lambda part: _annotations(stage, own, part), finish=finish, commit=commit)
        return unit

    def work(self, unit: str, stage: str, items: Sequence[Any], make: Any, *, finish: bool, commit: bool) -> None:
        order = open_order(self.lake, unit, {"stage": stage}, lambda: items)
        for number, part in order.slices() if finish else ():
            tables = {name: rows(name, *given) for name, given in make(part).items()}
            finish_slice(self.lake, unit, number, tables, {})
        if finish and commit:
            commit_order(self.lake, order, last_table(stage))

    def manifest(self, name: str = "set") -> None:
        """A manifest that lies in the lake, built from what it holds now."""
        lock = json.dumps({"tables": dict(Snapshot.take(self.lake).versions)})
        path = f"manifests/{name}/v1"
        self.lake.store.put(f"{path}/manifest.lock.json", lock.encode())
        self.append("manifests", {"name": name, "version": "v1", "path": path, "lock": lock, "built_at": at(0)})

    def append(self, table: str, *given: Mapping[str, Any]) -> None:
        """Rows of a table, once, as no stage would write them where a test wants it so."""
        content = rows(table, *given).to_pylist()
        self.lake.append(table, content, digest("rows", table, json.dumps(given, default=str)))

    def force(self, table: str, *given: Mapping[str, Any]) -> None:
        """Rows that no stage could write: nothing looks at them."""
        unit = digest("forced", table, json.dumps(given, default=str))
        content = rows(table, *given)
        path, buffer = f"parts/{unit}/00000.parquet", io.BytesIO()
        pq.write_table(content.cast(pa.schema([field.with_nullable(True) for field in content.schema])), buffer)
        self.lake.store.put(f"{table_key(table)}/{path}", buffer.getvalue())
        part = Part(table, path, content.num_rows, buffer.tell(), json.dumps({"numRecords": content.num_rows}))
        self.lake.commit(table, unit, [add_action(self.lake.store, part)])

    def copy_rows(self, table: str, count: int, **other: Any) -> None:
        """Some of the rows of a table once more, with ``other`` values."""
        found = self.lake.table(table).to_pyarrow_table().slice(0, count).to_pylist()
        self.force(table, *(row | other for row in found))


def sound(lake: Lake, *, stages: Sequence[str] = STAGES) -> Sound:
    """Fill an empty lake."""
    made = Sound(lake)
    made.download()
    for stage in stages:
        made.annotate(stage)
    made.manifest()
    return made


def _annotations(stage: str, own: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ids = [item["image_id"] for item in items]
    things = [{"image_id": i, "instance_id": digest("instance", i)} for i in ids]
    texts = [{"text_sha256": digest("text", i), "text": i, "vector": [0.5]} for i in ids]
    made = {
        "tag": {"tags": [{"image_id": i, "tags": [{"tag": "dog", "score": 0.5}]} for i in ids]},
        "ground": {"instances": things},
        "caption": {"captions": [*things, *({"image_id": i, "instance_id": None} for i in ids)]},
        "embed": {"embeddings": texts},
    }[stage]
    shared = {name: value for name, value in own.items() if name != "shard_id"}
    tables = {name: [row | (shared if name == "embeddings" else own) for row in given] for name, given in made.items()}
    return {**tables, "outcomes": [{**own, "image_id": i, "stage": stage} for i in ids]}
