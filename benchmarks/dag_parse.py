"""Parse time of each DAG file, and the heavy modules it imports: ``.venv/bin/python benchmarks/dag_parse.py``.

Airflow parses each file again and again with Airflow itself already loaded, so that is what is timed: the median of
several parses in one process, beside an empty DAG file in the same run.
"""

from __future__ import annotations

import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DAGS = Path(__file__).parents[1] / "dags"
HEAVY = ("torch", "transformers", "deltalake", "img2dataset", "duckdb", "boto3", "kubernetes", "pandas", "pyarrow")
EMPTY = "from airflow.sdk import dag\n\n@dag(schedule=None)\ndef empty():\n    pass\n\nempty()\n"
REPEATS = 20


def median_seconds(file: Path) -> float:
    """Median time to run a DAG file, after one run that is not counted."""
    taken = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        runpy.run_path(str(file))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def imported(file: Path) -> list[str]:
    """Heavy modules that a fresh interpreter has loaded after it ran the file."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    return sorted(set(HEAVY) & set(done.stdout.split()))


def main() -> None:
    """Print one line per file."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        empty = Path(home) / "empty.py"
        empty.write_text(EMPTY)
        baseline, beside = median_seconds(empty), set(imported(empty))
        print(f"{'an empty DAG':16} {baseline * 1000:7.1f} ms      1.0 x")
        for file in sorted(DAGS.glob("*.py")):
            seconds = median_seconds(file)
            extra = sorted(set(imported(file)) - beside) or "nothing heavy"
            print(
                f"{file.name:16} {seconds * 1000:7.1f} ms {seconds / baseline:8.1f} x  imports beside Airflow: {extra}"
            )


if __name__ == "__main__":
    main()
