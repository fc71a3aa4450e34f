"""The environment of a loopback Airflow: where everything lies, who may log in, and nothing that leaves the machine."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from etl.demo.ports import HOST
from etl.demo.state import write_whole

USER = "admin"


@dataclass(frozen=True)
class AirflowSite:
    """One Airflow installation.

    Attributes:
        home: Folder of its database, logs, password and keys.
        dags: Folder of the DAG files.
        plugins: Folder of the plugins.
        port: Loopback port of the API server.
        extra: Further environment of all its processes, such as the lake.
    """

    home: Path
    dags: Path
    plugins: Path
    port: int
    extra: Mapping[str, str]

    @property
    def address(self) -> str:
        """Where the UI and the REST API answer."""
        return f"http://{HOST}:{self.port}"

    @property
    def logs(self) -> Path:
        """Folder with the output of each process."""
        return self.home / "processes"

    @property
    def password_file(self) -> Path:
        """The file Airflow reads the password from; readable by its owner only."""
        return self.home / "passwords.json"

    def password(self) -> str:
        """The password of ``admin``, generated when it is first asked for."""
        if not self.password_file.exists():
            write_whole(self.password_file, json.dumps({USER: secrets.token_urlsafe(12)}), mode=0o600)
        return str(json.loads(self.password_file.read_text())[USER])

    def key(self, name: str) -> str:
        """A secret shared by all processes and kept over restarts."""
        file = self.home / "keys" / name
        if not file.exists():
            write_whole(file, secrets.token_hex(32), mode=0o600)
        return file.read_text()

    def environment(self) -> dict[str, str]:
        """The complete environment of every process; of the caller's own Airflow settings nothing remains."""
        self.password()
        settings = {f"AIRFLOW__{name}": value for name, value in self._settings().items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        reach = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost"]))
        return {
            **inherited,
            "AIRFLOW_HOME": str(self.home),
            "NO_PROXY": reach,
            "no_proxy": reach,
            "PYTHONUNBUFFERED": "1",
            **settings,
            **self.extra,
        }

    def _settings(self) -> dict[str, str]:
        return {
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__PLUGINS_FOLDER": str(self.plugins),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",  # a paused DAG ignores its assets without a word
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.password_file),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}",
            "LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "API__HOST": HOST,
            "API__PORT": str(self.port),
            "API__BASE_URL": self.address,
            "API__WORKERS": "1",
            "API__SECRET_KEY": self.key("api_secret_key"),
            "API_AUTH__JWT_SECRET": self.key("jwt_secret"),
            "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            # A task whose processes were killed is tried again after this many seconds; the default is 300.
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "WORKERS__EXECUTION_API_TIMEOUT": "30",  # on a loaded machine the default 5 costs tries
        }
