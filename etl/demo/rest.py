"""A small client of Airflow's REST API, with the answers that were seen to need a second try tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from etl.demo.airflow_env import USER
from etl.errors import GroundlakeError

ATTEMPTS = 8
Json = dict[str, Any]


class AirflowApiError(GroundlakeError):
    """Airflow refused a request, or could not answer it after several tries."""

    def __init__(self, method: str, path: str, status: int | None, answer: str) -> None:
        super().__init__(f"{method} {path} was answered {status or 'not at all'}: {answer[:500]}")
        self.status = status


class AirflowClient:
    """The calls the demo needs.

    Args:
        address: Scheme, host and port.
        password: Password of the user ``admin``.
        transport: How requests travel; for tests.
        sleep: Waits between tries; for tests.
    """

    def __init__(
        self,
        address: str,
        password: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # trust_env: a proxy of the user's must not get between this process and its own loopback address.
        self._http = httpx.Client(base_url=address, timeout=60.0, trust_env=False, transport=transport)
        self._password, self._sleep, self._token = password, sleep, ""

    def health(self) -> dict[str, str]:
        """Status per component (``metadatabase``, ``scheduler``, …); empty while the API server does not answer."""
        try:
            answer = self._http.get("/api/v2/monitor/health", timeout=10.0)
            answer.raise_for_status()
        except httpx.HTTPError:
            return {}
        return {name: str((part or {}).get("status")) for name, part in answer.json().items()}

    def dags(self) -> list[Json]:
        """Every DAG that was parsed."""
        return self._list("/api/v2/dags?limit=500", "dags")

    def import_errors(self) -> list[Json]:
        """DAG files that cannot be imported: ``filename`` and ``stack_trace``."""
        return self._list("/api/v2/importErrors?limit=100", "import_errors")

    def ensure_pool(self, name: str, slots: int) -> None:
        """Make a pool, unless there is one."""
        body = {"name": name, "slots": slots, "include_deferred": True}
        self._send("POST", "/api/v2/pools", body, accepted=(409,))

    def trigger(self, dag: str, conf: Mapping[str, Any], run_id: str) -> None:
        """Start a run. Its id comes from the caller: asking again after a lost answer starts no second one."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        self._send("POST", f"/api/v2/dags/{dag}/dagRuns", body, accepted=(409,))

    def run(self, dag: str, run_id: str) -> Json:
        """A run: ``state`` is queued, running, success or failed."""
        return self._get(_run(dag, run_id))

    def active_runs(self, dag: str) -> list[Json]:
        """The runs of a DAG that have not ended."""
        return self._list(f"/api/v2/dags/{dag}/dagRuns?limit=100&state=queued&state=running", "dag_runs")

    def tasks(self, dag: str, run_id: str) -> list[Json]:
        """The task instances of a run, mapped ones included."""
        path = f"{_run(dag, run_id)}/taskInstances"
        found: list[Json] = []
        while page := self._list(f"{path}?limit=100&offset={len(found)}", "task_instances"):
            found += page
            if len(page) < 100:
                break
        return found

    def log(self, task: Mapping[str, Any]) -> list[str]:
        """The lines a task instance logged in its last try."""
        path = (
            f"{_run(task['dag_id'], task['dag_run_id'])}/taskInstances/{task['task_id']}"
            f"/logs/{max(1, task['try_number'])}?map_index={task['map_index']}&full_content=true"
        )
        content: Sequence[Any] = self._get(path).get("content", [])
        return [line for each in content for line in _lines(each) if not line.startswith("::")]

    def asset_events(self, dag: str, run_id: str) -> list[Json]:
        """What a run published: ``asset_id`` and the ``created_dagruns`` it led to."""
        query = f"source_dag_id={dag}&limit=100&order_by=-timestamp"
        events = self._list(f"/api/v2/assets/events?{query}", "asset_events")
        return [event for event in events if event["source_run_id"] == run_id]

    def listeners(self) -> dict[int, list[str]]:
        """DAG ids that an asset triggers, by asset id."""
        assets = self._list("/api/v2/assets?limit=100", "assets")
        return {asset["id"]: [dag["dag_id"] for dag in asset["scheduled_dags"]] for asset in assets}

    def _list(self, path: str, key: str) -> list[Json]:
        return list(self._get(path)[key])

    def _get(self, path: str) -> Json:
        return self._send("GET", path)

    def _send(self, method: str, path: str, body: Json | None = None, accepted: Sequence[int] = ()) -> Json:
        """One request; 5xx, a lost connection and an expired token are tried again."""
        status, text = None, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(min(5.0, 0.25 * 2**attempt))
            try:
                answer = self._once(method, path, body)
            except httpx.TransportError as error:
                status, text = None, repr(error)
                continue
            status, text = answer.status_code, answer.text
            if status == httpx.codes.UNAUTHORIZED and attempt == 0:
                self._token = ""
            elif status < 400 or status in accepted:
                return answer.json() if status < 400 and text else {}
            elif status < 500:
                break
        raise AirflowApiError(method, path, status, text)

    def _once(self, method: str, path: str, body: Json | None) -> httpx.Response:
        if not self._token:
            login = self._http.post("/auth/token", json={"username": USER, "password": self._password})
            if login.is_error:
                return login
            self._token = login.json()["access_token"]
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        return self._http.request(method, path, json=body, headers=headers)


def _lines(entry: Any) -> list[str]:
    """The text of a log entry, and of the exceptions it carries."""
    if not isinstance(entry, dict):
        return [str(entry)]
    errors = [f"{each.get('exc_type')}: {each.get('exc_value')}" for each in entry.get("error_detail") or []]
    return [*str(entry.get("event", "")).splitlines(), *(line for text in errors for line in text.splitlines())]


def _run(dag: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag}/dagRuns/{quote(run_id, safe='')}"
