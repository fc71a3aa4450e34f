"""A desk to run the fake stages from, and bytes that are no picture; used by the tests of the runner."""

from __future__ import annotations

from typing import Any

from handmade import Picture

from etl.lake import Lake, Snapshot
from etl.stages.planning import plan_request
from etl.stages.runner import run_stage


class Broken(Picture):
    """Bytes that are no picture."""

    def encoded(self) -> bytes:
        return b"this is no picture %d" % self.seed


class Desk:
    """Plans and runs the fake stages."""

    def __init__(self, lake: Lake, fakes: Any) -> None:
        self.lake, self.fakes = lake, fakes
        self.entries: dict[str, Any] = {}

    def misbehave(self, stage: str = "tag", **options: Any) -> None:
        self.entries[stage] = self.fakes.entry(stage, **options)

    @property
    def catalog(self) -> Any:
        return self.fakes.catalog_of(*self.entries.values())

    def plan(self, name: str = "r", **options: Any) -> Any:
        return plan_request(self.lake, self.catalog, name, **{"stages": ["tag", "ground"], **options})

    def run(self, stage: str = "tag", name: str = "r", *, group: int = 0, progress: Any = None, **options: Any) -> Any:
        key = self.plan(name, **options).key
        return run_stage(self.lake, self.catalog, stage, key, group, device="cpu", progress=progress)

    def raw(self, table: str) -> list[dict[str, Any]]:
        with Snapshot.take(self.lake).connect() as connection:
            return connection.sql(f"select * from raw.{table}").to_arrow_table().to_pylist()

    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        rows = self.raw("outcomes")
        assert len({(r["image_id"], r["unit"]) for r in rows}) == len(rows), "an image has two outcomes of one order"
        return {r["image_id"]: (r["status"], r["reason"]) for r in rows}
