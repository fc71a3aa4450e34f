"""DAGs are read and run in processes of their own: Airflow keeps its settings and its database for a process's life."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
DAGS = HERE.parents[1] / "dags"
MARK = "RESULT "


@dataclass(frozen=True)
class Seen:
    """What a script printed: its results, and all of its output for messages and logs."""

    results: list[dict[str, Any]]
    output: str


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Seen]:
    """Runs a script of this folder with an Airflow of its own: ``airflow("run_dags.py", "[…]", GROUNDLAKE_LAKE=…)``."""

    def run(script: str, *arguments: str, **variables: str) -> Seen:
        home = tmp_path_factory.mktemp("airflow")
        done = subprocess.run(
            [sys.executable, str(HERE / script), str(DAGS), *arguments],
            env=environment(home, variables),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:]
        lines = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
        return Seen([json.loads(line) for line in lines], done.stdout)

    return run


def environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    own = ("AIRFLOW", "GROUNDLAKE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {
        **inherited,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "OMP_NUM_THREADS": "2",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        **variables,
    }
