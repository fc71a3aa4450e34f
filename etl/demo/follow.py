"""Following Airflow runs to their end, and from there along the assets they publish to the runs these start."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from etl.demo.airflow import Airflow
from etl.demo.report import Report
from etl.demo.rest import AirflowClient, Json
from etl.errors import GroundlakeError

POLL_SECONDS = 1.0
TRIGGER_SECONDS = 90.0  # a downstream run was seen to begin within two
LOG_LINES = 60
SHOWN = {"success", "failed", "skipped", "up_for_retry", "upstream_failed"}
_STYLE = {"failed": "bold red", "upstream_failed": "red", "up_for_retry": "yellow", "skipped": "dim"}


class RunFailedError(GroundlakeError):
    """A run failed; carries the log of the task that did."""


@dataclass(frozen=True)
class Run:
    """A DAG run."""

    dag: str
    run_id: str


class Follower:
    """Waits for runs and tells what happens in them.

    Args:
        airflow: Where they run; a process of it that dies ends the wait.
        report: Told of every task that changes its state.
    """

    def __init__(self, airflow: Airflow, report: Report) -> None:
        self._airflow, self._report = airflow, report
        self._client: AirflowClient = airflow.client
        self._told: set[tuple[object, ...]] = set()

    def skip_told(self, runs: Iterable[Run]) -> None:
        """Do not tell again what happened in these runs before now."""
        for run in runs:
            self._told |= {_change(task) for task in self._client.tasks(run.dag, run.run_id)}

    def follow(self, runs: Iterable[Run]) -> list[Run]:
        """Wait until these runs and all that they lead to have ended well; returns them in the order of their end.

        Raises:
            RunFailedError: A run failed, or an asset's listener did not start.
            ChildDiedError: A process of Airflow ended.
        """
        active, done = list(dict.fromkeys(runs)), []
        awaited: dict[Run, float] = {}  # ended runs whose events have not led to all their runs yet
        while active or awaited:
            self._airflow.check()
            for run in list(active):
                if self._look(run):
                    active.remove(run)
                    done.append(run)
                    awaited[run] = time.monotonic()
            for run in list(awaited):
                created, complete = self._led_to(run)
                active += [new for new in created if new not in active and new not in done]
                if complete:
                    del awaited[run]
                elif time.monotonic() - awaited[run] > TRIGGER_SECONDS:
                    raise RunFailedError(
                        f"what {run.dag} published started no run within {TRIGGER_SECONDS:.0f} s",
                        remedy="see in the UI whether a DAG is paused ('make ui')",
                    )
            if active or awaited:
                time.sleep(POLL_SECONDS)
        return done

    def _look(self, run: Run) -> bool:
        """Tell what changed in a run; returns whether it has ended well."""
        state = self._client.run(run.dag, run.run_id)["state"]  # first: the tasks of an ended run change no more
        tasks = self._client.tasks(run.dag, run.run_id)
        for task in tasks:
            self._tell(task)
        ended = sum(task["state"] in ("success", "failed", "skipped", "upstream_failed") for task in tasks)
        working = ", ".join(_name(task) for task in tasks if task["state"] == "running") or state
        self._report.working(f"{run.dag} {ended}/{len(tasks)} tasks; {working}")
        if state == "failed":
            raise self._failure(run, tasks)
        return bool(state == "success")

    def _tell(self, task: Json) -> None:
        state = task["state"]
        key = _change(task)
        if state not in SHOWN or key in self._told:
            return
        self._told.add(key)
        seconds = f"{task['duration']:5.1f} s" if task.get("duration") else ""
        line = f"  {task['dag_id']:<9} {_name(task):<34} {state:<15} {seconds}"
        self._report.line(line.rstrip(), _STYLE.get(state))

    def _led_to(self, run: Run) -> tuple[list[Run], bool]:
        """The runs that a run's assets started, and whether every listener has had its event."""
        events = self._client.asset_events(run.dag, run.run_id)
        listeners = self._client.listeners() if events else {}
        created: list[Run] = []
        complete = True
        for event in events:
            started = [Run(each["dag_id"], each["run_id"]) for each in event["created_dagruns"]]
            created += started
            complete &= set(listeners.get(event["asset_id"], [])) <= {each.dag for each in started}
        return list(dict.fromkeys(created)), complete

    def _failure(self, run: Run, tasks: list[Json]) -> RunFailedError:
        failed = sorted((task for task in tasks if task["state"] == "failed"), key=lambda task: task["end_date"] or "")
        for task in failed[:2]:
            self._report.line(f"--- the log of {_name(task)} (try {task['try_number']}), last lines:", "bold red")
            for line in self._client.log(task)[-LOG_LINES:]:
                self._report.line(f"    {line}")
        names = ", ".join(_name(task) for task in failed) or "no task of it"
        return RunFailedError(
            f"the run {run.run_id} of DAG {run.dag} failed; failed tasks: {names}",
            remedy=f"mend the cause and run it again: it resumes; all logs are in {self._airflow.site.home / 'logs'}",
        )


def _change(task: Json) -> tuple[object, ...]:
    return tuple(task[name] for name in ("dag_id", "dag_run_id", "task_id", "map_index", "try_number", "state"))


def _name(task: Json) -> str:
    label = task.get("rendered_map_index") or (task["map_index"] if task["map_index"] >= 0 else "")
    name = str(task["task_id"]).rsplit(".", 1)[-1]
    return f"{name} [{label}]" if label != "" else name
