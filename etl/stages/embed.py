"""embed: CLIP text vectors of labels and captions, which InstanceDiffusion is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from etl.lake.ids import digest_bytes
from etl.lake.texts import caption_for_embedding
from etl.models.contracts import Task, TextEncoder
from etl.models.store import ModelStore
from etl.stages.contract import Result, Row, Stage, StageOptions, WorkItem


class EmbedOptions(StageOptions):
    """Nothing but the network changes a vector."""


class EmbedStage(Stage):
    """One vector per distinct text of a picture. The value is the list of the texts' digests."""

    name: ClassVar[str] = "embed"
    VERSION: ClassVar[int] = 1
    upstream: ClassVar[str | None] = "caption"
    reads: ClassVar[tuple[str, ...]] = ("instances", "captions")
    tables: ClassVar[tuple[str, ...]] = ("embeddings",)
    roles: ClassVar[Mapping[str, Task]] = {"encoder": "embedder"}
    Options: ClassVar[type[StageOptions]] = EmbedOptions
    needs_pixels: ClassVar[bool] = False
    encoder: TextEncoder

    def load(self, models: ModelStore, device: str) -> None:
        self.encoder = self.open("encoder", models, device)

    def skip(self, item: WorkItem) -> Result | None:
        return None if texts_of(item) else Result("empty", "no_texts", value=[])

    def process(self, batch: Sequence[WorkItem]) -> list[Result]:
        wanted = [texts_of(item) for item in batch]
        distinct = sorted({text for texts in wanted for text in texts})
        vectors = dict(zip(distinct, self.encoder.vectors(distinct, len(batch)), strict=True))
        results = []
        for texts in wanted:
            if all(np.isfinite(vectors[text]).all() for text in texts):
                rows: list[Row] = [
                    {"text_sha256": digest_bytes(text.encode()), "text": text, "vector": vectors[text].tolist()}
                    for text in texts
                ]
                value = [row["text_sha256"] for row in rows]
                results.append(Result("ok", rows={"embeddings": rows}, value=value))
            else:
                results.append(Result("failed", "not_finite", error="the encoder gave vectors that are not finite"))
        return results


def texts_of(item: WorkItem) -> list[str]:
    """The distinct texts of a picture, sorted.

    They are every label, every caption, and of every instance the caption led by its label where it does not name it.
    """
    labels = {row["instance_id"]: row["label"] for row in item.upstream.get("instances", ())}
    texts = set(labels.values())
    for row in item.upstream.get("captions", ()):
        texts.add(row["caption"])
        if row["caption"] and row["instance_id"] in labels:
            texts.add(caption_for_embedding(labels[row["instance_id"]], row["caption"]))
    return sorted(text for text in texts if text)
