"""Runs are followed along the assets they publish; a failed one ends the wait with the log of what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etl.demo import follow
from etl.demo.follow import Follower, Run, RunFailedError
from etl.demo.processes import ChildDiedError
from etl.demo.report import Report

Said = Callable[[], str]
INGEST, ANNOTATE, MANIFEST = Run("ingest", "i"), Run("annotate", "a"), Run("manifest", "m")


def task(run: Run, name: str, state: str, *, label: str | None = None, index: int = -1) -> dict[str, Any]:
    return {
        "dag_id": run.dag,
        "dag_run_id": run.run_id,
        "task_id": name,
        "map_index": index,
        "rendered_map_index": label,
        "state": state,
        "try_number": 1,
        "duration": 1.5,
        "end_date": "2026-01-01T00:00:00Z",
    }


@dataclass
class FakeAirflow:
    """Runs whose states advance with every look; an asset's event leads to its runs after ``delay`` looks."""

    states: dict[Run, list[str]]
    leads_to: Mapping[Run, Run] = field(default_factory=dict)
    tasks_of: Mapping[Run, list[dict[str, Any]]] = field(default_factory=dict)
    delay: int = 2
    dead: bool = False

    def __post_init__(self) -> None:
        self.client, self.site = self, SimpleNamespace(home=Path("/demo"))

    def check(self) -> None:
        if self.dead:
            raise ChildDiedError("scheduler ended with 1")

    def run(self, dag: str, run_id: str) -> dict[str, Any]:
        states = self.states[Run(dag, run_id)]
        return {"state": states.pop(0) if len(states) > 1 else states[0]}

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        return list(self.tasks_of.get(Run(dag, run_id), []))

    def asset_events(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        follower = self.leads_to.get(Run(dag, run_id))
        if follower is None:
            return []
        self.delay -= 1
        created = [] if self.delay > 0 else [{"dag_id": follower.dag, "run_id": follower.run_id}]
        return [{"asset_id": 1 if follower == ANNOTATE else 2, "created_dagruns": created}]

    def listeners(self) -> dict[int, list[str]]:
        return {1: ["annotate"], 2: ["manifest"], 3: []}

    def log(self, task: Mapping[str, Any]) -> list[str]:
        return [f"the log of {task['task_id']}"]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.001)


def test_the_runs_that_assets_start_are_followed_too(report: Report) -> None:
    airflow = FakeAirflow(
        states={INGEST: ["queued", "running", "success"], ANNOTATE: ["running", "success"], MANIFEST: ["success"]},
        leads_to={INGEST: ANNOTATE, ANNOTATE: MANIFEST},
    )
    assert Follower(airflow, report).follow([INGEST]) == [INGEST, ANNOTATE, MANIFEST]  # type: ignore[arg-type]


def test_a_run_that_publishes_nothing_is_the_last(report: Report) -> None:
    airflow = FakeAirflow(states={INGEST: ["success"]})
    assert Follower(airflow, report).follow([INGEST]) == [INGEST]  # type: ignore[arg-type]


def test_an_asset_whose_listener_never_starts_is_an_error(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "TRIGGER_SECONDS", 0.02)
    airflow = FakeAirflow(states={INGEST: ["success"]}, leads_to={INGEST: ANNOTATE}, delay=10**6)
    with pytest.raises(RunFailedError, match="ingest published started no run"):
        Follower(airflow, report).follow([INGEST])  # type: ignore[arg-type]


def test_a_failed_run_prints_the_log_of_its_failed_tasks_and_ends_the_wait(report: Report, said: Said) -> None:
    tasks = [
        task(ANNOTATE, "plan", "success"),
        task(ANNOTATE, "group.tag", "failed", label="demo 1a2b3c4d", index=0),
        task(ANNOTATE, "group.ground", "upstream_failed", index=0),
    ]
    airflow = FakeAirflow(states={ANNOTATE: ["failed"]}, tasks_of={ANNOTATE: tasks})
    with pytest.raises(RunFailedError) as failure:
        Follower(airflow, report).follow([ANNOTATE])  # type: ignore[arg-type]
    assert failure.value.message.endswith("failed tasks: tag [demo 1a2b3c4d]")
    assert "the log of group.tag" in said()
    assert "the log of plan" not in said()


def test_each_change_of_a_task_is_told_once(report: Report, said: Said) -> None:
    tasks = [task(INGEST, "plan", "success"), task(INGEST, "shard.download", "running", index=0)]
    airflow = FakeAirflow(states={INGEST: ["running", "running", "success"]}, tasks_of={INGEST: tasks})
    Follower(airflow, report).follow([INGEST])  # type: ignore[arg-type]
    assert said().count("plan") == 1
    assert "download" not in said()


def test_a_process_of_airflow_that_dies_ends_the_wait(report: Report) -> None:
    airflow = FakeAirflow(states={INGEST: ["running"]}, dead=True)
    with pytest.raises(ChildDiedError):
        Follower(airflow, report).follow([INGEST])  # type: ignore[arg-type]
