"""Outcomes written by hand, for the annotators of the fake stages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.models.store import ModelStore
from etl.stages.annotators import Annotator, register
from etl.stages.staleness import annotator_chain, order_items

START = datetime(2026, 2, 1, tzinfo=UTC)


class Desk:
    """Outcomes written by hand, for the annotators of the fake stages."""

    def __init__(self, lake: Lake, fakes: Any) -> None:
        self.lake, self.fakes, self.number = lake, fakes, 0
        self.catalog = fakes.catalog_of()
        models = ModelStore(lake.store, lake.settings.scratch)
        self.chain = annotator_chain(self.catalog, models, "ground", {"tag": "fake-tag", "ground": "fake-ground"})
        self.tagger, self.grounder = self.chain

    def outcome(
        self,
        annotator: Annotator,
        images: Sequence[str],
        given: Sequence[str] | None = None,
        value: str = "value",
        status: str = "ok",
        retryable: bool = False,
    ) -> str:
        """One unit; the input of a tagger is the image itself. Later units were requested later."""
        self.number += 1
        unit = digest("unit", self.number)
        rows = [
            {"image_id": image, "shard_id": "any", "stage": annotator.entry.stage, "unit": unit}
            | {"annotator_id": annotator.annotator_id, "requested_at": START + timedelta(hours=self.number)}
            | {"status": status, "reason": None if status == "ok" else "why", "retryable": retryable}
            | {"input_digest": source, "value_digest": value, "seconds": 0.0}
            for image, source in zip(images, given or images, strict=True)
        ]
        self.lake.append("outcomes", rows, unit)
        return unit

    def stale(self, shards: Sequence[str], *, last: str = "tag", force: bool = False) -> list[dict[str, Any]]:
        chain = self.chain[:1] if last == "tag" else self.chain
        return order_items(Snapshot.take(self.lake), shards, chain, force=force)

    def ids(self, shards: Sequence[str], **options: Any) -> set[str]:
        return {row["image_id"] for row in self.stale(shards, **options)}

    def promote_all(self, source: str) -> None:
        register(self.lake, self.tagger, source)
        register(self.lake, self.grounder, source)
