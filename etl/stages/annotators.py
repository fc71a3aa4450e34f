"""From a catalog entry to an annotator: everything that changes a result, and the id made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from etl.lake import Lake
from etl.lake.ids import digest
from etl.models.store import ModelStore
from etl.settings import ModelEntry
from etl.stages.contract import Stage


@dataclass(frozen=True)
class Annotator:
    """Who makes rows: ``annotator_id`` is the digest of ``record``."""

    annotator_id: str
    entry: ModelEntry
    record: dict[str, Any]


def annotator_of(stage: type[Stage], entry: ModelEntry, models: ModelStore) -> Annotator | None:
    """The annotator of an entry, or None while its weights are not in the model store.

    Nothing of the device at hand enters the id; the model batch does where the dtype makes results depend on it.

    Raises:
        ConfigurationError: The entry's options are wrong.
    """
    options = stage(entry).options.model_dump(mode="json")
    weights: dict[str, Any] = {}
    for role, network in sorted(entry.networks.items()):
        sha = models.weights_digest(network)
        if sha is None:
            return None
        weights[role] = {"family": network.family, "weights_sha256": sha}
    record = {
        "stage": stage.name,
        "version": stage.VERSION,
        "networks": weights,
        "options": options,
        "dtype": entry.dtype,
        "batch_size": entry.batch_size if entry.dtype != "float32" else None,
        **({"engine": entry.engine} if entry.engine != "groundlake" else {}),
        **entry.switches,  # only those that differ from the defaults: results of before keep their annotator
    }
    return Annotator(digest(record), entry, record)


def register(lake: Lake, annotator: Annotator, source: str) -> None:
    """Write the annotator to the lake once; the first of its stage and source becomes the current one."""
    entry, now = annotator.entry, datetime.now(UTC)
    row = {
        "annotator_id": annotator.annotator_id,
        "stage": entry.stage,
        "model": entry.name,
        "kind": "model",
        "untrained": entry.untrained,
        "record": json.dumps(annotator.record, sort_keys=True),
        "created_at": now,
    }
    lake.append("annotators", [row], digest("annotator", annotator.annotator_id))
    promotion = {
        "stage": entry.stage,
        "source": source,
        "annotator_id": annotator.annotator_id,
        "promoted_at": now,
        "reason": "first",
    }
    lake.append("current", [promotion], first_promotion(entry.stage, source))


def first_promotion(stage: str, source: str) -> str:
    """The unit under which the first annotator of a stage and source promotes itself, unless a person was there first.

    It is committed once, so it never undoes a later promotion.
    """
    return digest("current", stage, source, "first")
