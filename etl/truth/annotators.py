"""A dataset as an annotator: one per stage that it speaks of, and its id made of the files' content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from etl.lake import Lake
from etl.lake.ids import digest

KIND = "dataset"


@dataclass(frozen=True)
class TruthAnnotator:
    """Who makes the rows of a stage: other files under the same name are another one.

    Attributes:
        stage: The stage.
        name: Name of the dataset.
        sha256: Digest of the files' content.
    """

    stage: str
    name: str
    sha256: str

    @property
    def record(self) -> dict[str, str]:
        """Everything that changes its rows."""
        return {"kind": KIND, "name": self.name, "stage": self.stage, "sha256": self.sha256}

    @property
    def annotator_id(self) -> str:
        """The digest of ``record``."""
        return digest(self.record)


def register(lake: Lake, annotator: TruthAnnotator) -> None:
    """Write the annotator to the lake once; unlike a model's, it never becomes the current one by itself."""
    row = {
        "annotator_id": annotator.annotator_id,
        "stage": annotator.stage,
        "model": annotator.name,
        "kind": KIND,
        "untrained": False,
        "record": json.dumps(annotator.record, sort_keys=True),
        "created_at": datetime.now(UTC),
    }
    lake.append("annotators", [row], digest("annotator", annotator.annotator_id))
