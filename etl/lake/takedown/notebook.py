"""What the passes over a takedown remember between them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from etl.lake.ids import digest
from etl.lake.lake import Lake


class Notebook:
    """What passes over a takedown have found and done, kept below ``units/takedowns/<id>/`` until it is purged.

    Rows that a late order commits may name shards and texts of which the takedown's own rows are gone by then.
    """

    def __init__(self, lake: Lake, takedown_id: str) -> None:
        self._lake, self._folder = lake, f"units/takedowns/{takedown_id}/"

    def plan(self, shards: Iterable[str], texts: Iterable[str]) -> None:
        """Remember what a pass is about to use, before it removes what told it; the same again adds nothing."""
        content: dict[str, Any] = {"shards": sorted(shards), "texts": sorted(texts)}
        if any(content.values()):
            self._write(f"plan-{digest(content)}", content)

    def did(self, content: Mapping[str, Mapping[str, int]]) -> None:
        """Remember what a pass has done: rows per table, bytes per tar."""
        if any(content.values()):
            self._write(f"did-{uuid.uuid4().hex}", content)

    def planned(self, kind: str) -> set[str]:
        """All ``shards`` or ``texts`` (digests) of all passes."""
        return {value for content in self._read("plan-") for value in content[kind]}

    def done(self) -> dict[str, dict[str, int]]:
        """The sums of all passes."""
        sums: dict[str, dict[str, int]] = {}
        for content in self._read("did-"):
            for kind, counts in content.items():
                for name, count in counts.items():
                    sums.setdefault(kind, {})
                    sums[kind][name] = sums[kind].get(name, 0) + count
        return sums

    def close(self) -> None:
        """Forget: the takedown is purged, and its events say what was done."""
        for one in list(self._lake.store.list(self._folder)):
            self._lake.store.delete(one.key)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        self._lake.store.put_if_absent(f"{self._folder}{name}.json", json.dumps(content).encode())

    def _read(self, prefix: str) -> list[dict[str, Any]]:
        found = self._lake.store.list(f"{self._folder}{prefix}")
        return [self._lake.store.read_json(one.key) for one in found]
