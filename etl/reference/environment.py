"""Where the reference interpreter is, and how a worker is run in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from etl.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "GROUNDLAKE_REFERENCE_PYTHON"
WORKER = Path(__file__).with_name("worker.py")
TIMEOUT_S = 3600


def reference_python() -> Path:
    """The interpreter that has upstream's packages.

    Raises:
        ConfigurationError: There is none.
    """
    python = Path(os.environ.get(VARIABLE) or ROOT / ".venv-reference" / "bin" / "python")
    if not python.is_file():
        raise ConfigurationError(
            f"there is no reference environment: {python} does not exist",
            remedy=f"run 'make reference', or name an interpreter that has upstream's packages in {VARIABLE}",
        )
    return python


def run_worker(folder: Path) -> None:
    """Let upstream answer the question in a folder, offline and on the CPU.

    Raises:
        ConfigurationError: There is no reference environment, or upstream's code failed; its last lines are quoted.
    """
    command = [str(reference_python()), "-I", "-W", "ignore", str(WORKER), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        lines = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise ConfigurationError(
            f"the reference engine ended with code {done.returncode}:\n{lines}",
            remedy="look whether the checkpoint is one that upstream's package loads; 'make reference' renews it",
        )
