"""Fixtures of the Airflow side: a program in place of Python, a lake with a small catalog, ingested shards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import rows

from etl.ingest.shards import write_urls
from etl.lake import Lake
from etl.lake.ids import digest, url_digest
from etl.lake.schemas import TABLES, TIME
from etl.orchestration.place import Place
from etl.settings import Catalog, ManifestSpec, ModelEntry, Source
from etl.settings.catalog import STAGES


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[str], str]:
    """Makes a program that stands where the Python of the commands stands, from the body of a shell script."""

    def make(body: str) -> str:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture
def place(lake: Lake) -> Place:
    """An empty lake with a catalog of one source and one model per stage."""
    models = {f"my-{stage}": ModelEntry(name=f"my-{stage}", stage=stage, default=True, networks={}) for stage in STAGES}
    sources = {
        name: Source(name=name, uri=f"/lists/{name}.csv", max_failed_share=0.4, nightly=name == "pets")
        for name in ("pets", "cars")
    }
    manifests = {
        name: ManifestSpec(name=name, format="jsonl", sql="select image_id from images", on_new_annotations=name == "a")
        for name in ("a", "b")
    }
    return Place(lake.settings, Catalog(sources, models, manifests), lake)


@pytest.fixture
def ingested(lake: Lake) -> Callable[..., dict[str, Any]]:
    """Writes the rows of a downloaded shard (pictures that are ok, urls that failed); returns its reference."""

    def ingest(shard: str, *, source: str = "pets", ok: int, failed: int = 0, first: int = 0) -> dict[str, Any]:
        now, unit = datetime.now(UTC), f"unit-{shard}"
        names = [f"{source}/{number}" for number in range(first, first + ok + failed)]
        listed = {"urls": f"urls/{shard}.parquet", "n_urls": ok + failed, "download": "{}"}
        write_urls(lake, listed["urls"], pa.table({"url": names, "caption": pa.nulls(len(names), pa.string())}))
        lake.append("shards", [row("shards", now, shard, unit, source=source, **listed)], f"s{shard}")
        images = [
            row("images", now, shard, unit, image_id=digest(name), length=10, width=8, height=8) for name in names[:ok]
        ]
        fates = [
            row(
                "downloads",
                now,
                shard,
                unit,
                url=name,
                url_sha256=url_digest(name),
                status="ok" if number < ok else "failed",
            )
            | {"error_class": None if number < ok else "timeout"}
            for number, name in enumerate(names)
        ]
        lake.append("images", images, unit)
        lake.append("downloads", fates, unit)
        return {"source": source, "shard": shard, "attempt": 1, "label": f"{source} {shard}"}

    return ingest


def row(table: str, now: datetime, shard: str, unit: str, **values: Any) -> dict[str, Any]:
    """A row with plausible values in every column that is not given."""
    times = {column.name: now for column in TABLES[table].columns if column.type == TIME}
    given = {**times, "shard_id": shard, "unit": unit, "attempt": 1, **values}
    return rows.row(table, **{name: value for name, value in given.items() if name in TABLES[table].schema.names})
