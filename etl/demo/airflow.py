"""A real Airflow on loopback, as four supervised processes: started, waited for, watched and stopped as one."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from etl.demo.airflow_env import AirflowSite
from etl.demo.processes import API_SERVER, SCHEDULER, Child, spawn, tail
from etl.demo.rest import AirflowClient
from etl.demo.state import ProcessRef
from etl.errors import ConfigurationError, GroundlakeError

# Not `airflow standalone`: it listens on all interfaces, and orphans its children when it is told to stop.
COMMANDS: Mapping[str, Sequence[str]] = {
    API_SERVER: ("api-server",),
    SCHEDULER: ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
START_SECONDS = 300.0


class AirflowStartError(GroundlakeError):
    """Airflow did not come up; carries what its processes said."""


class Airflow:
    """A supervised Airflow. Whoever starts it stops its processes, with ``etl.demo.processes.stop_all``.

    Args:
        site: Where it lies and how it is configured.
        record: Called with every process as soon as it runs, so that it can be stopped whatever happens next.
    """

    def __init__(self, site: AirflowSite, record: Callable[[Iterable[ProcessRef]], None]) -> None:
        self.site = site
        self.client = AirflowClient(site.address, site.password())
        self._record = record
        self._children: list[Child] = []
        self._environment = site.environment()

    def start(self, dags: Iterable[str]) -> None:
        """Prepare the database, start the processes, and return when these DAGs can be triggered.

        Raises:
            AirflowStartError: It did not come up in time, or a DAG file cannot be imported.
            ChildDiedError: A process ended.
        """
        self._migrate()
        began = datetime.now(UTC)
        for name, arguments in COMMANDS.items():
            log = self.site.logs / f"{name}.log"
            log.unlink(missing_ok=True)
            command = [sys.executable, "-m", "airflow", *arguments]
            child = spawn(name, command, self._environment, log, cwd=self.site.home)
            self._children.append(child)
            self._record([child.ref])
        self._wait("become healthy", self._unhealthy)
        self._wait("parse its DAGs", lambda: self._unparsed(set(dags), began))

    def check(self) -> None:
        """Raise ChildDiedError when one of the processes has ended."""
        for child in self._children:
            child.check()

    def _migrate(self) -> None:
        """Bring the database to this Airflow's version: eight seconds, so only when it is not there yet."""
        version = importlib.metadata.version("apache-airflow")
        done = self.site.home / "migrated"
        if done.exists() and done.read_text() == version and (self.site.home / "airflow.db").exists():
            return
        self.site.logs.mkdir(parents=True, exist_ok=True)
        log = self.site.logs / "migrate.log"
        child = spawn(
            "migrate", [sys.executable, "-m", "airflow", "db", "migrate"], self._environment, log, self.site.home
        )
        self._record([child.ref])
        try:
            code = child.popen.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            raise AirflowStartError(
                f"airflow db migrate ended with {code}:\n{tail(log)}",
                remedy=f"see {log}; a database of another Airflow version: remove {self.site.home}",
            )
        done.write_text(version)

    def _unhealthy(self) -> list[str]:
        health = self.client.health()
        wanted = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return [name for name in wanted if health.get(name) != "healthy"]

    def _unparsed(self, dags: set[str], began: datetime) -> list[str]:
        # One from an earlier start says nothing about the files of today.
        errors = [error for error in self.client.import_errors() if _time(error["timestamp"]) >= began]
        if errors:
            text = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
            raise AirflowStartError(f"Airflow cannot import {len(errors)} DAG files:\n{text}")
        parsed = {dag["dag_id"] for dag in self.client.dags() if _time(dag.get("last_parsed_time")) >= began}
        return sorted(dags - parsed)

    def _wait(self, what: str, missing: Callable[[], list[str]]) -> None:
        begin = time.monotonic()
        while left := missing():
            self.check()
            if time.monotonic() - begin > START_SECONDS:
                raise AirflowStartError(
                    f"Airflow did not {what} within {START_SECONDS:.0f} s; missing: {', '.join(left)}",
                    remedy=f"see the logs in {self.site.logs}; a loaded machine may need a second try",
                )
            time.sleep(0.5)


def _time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)


def dags_folder() -> tuple[Path, Path]:
    """The folders of our DAGs and plugins in this clone.

    Raises:
        ConfigurationError: groundlake was installed without them.
    """
    clone = Path(__file__).resolve().parents[2]
    if not any((clone / "dags").glob("*.py")):
        raise ConfigurationError(
            f"no DAG files in {clone / 'dags'}", remedy="run the demo from a git clone of groundlake, with 'make demo'"
        )
    return clone / "dags", clone / "plugins"
