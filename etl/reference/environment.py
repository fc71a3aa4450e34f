"""Where the reference interpreter is, and what it has."""

from __future__ import annotations

import subprocess
from pathlib import Path

from etl.errors import ConfigurationError
from etl.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "GROUNDLAKE_REFERENCE_PYTHON"
TIMEOUT_S = 120
_LOOK = "import sys, importlib.util; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


def reference_python() -> Path:
    """The interpreter that has upstream's packages.

    Raises:
        ConfigurationError: There is none, or a setting is wrong.
    """
    python = load_settings().reference_python or ROOT / ".venv-reference" / "bin" / "python"
    if not python.is_file():
        raise ConfigurationError(
            f"there is no reference environment: {python} does not exist",
            remedy=f"run 'make reference', or name an interpreter that has upstream's packages in {VARIABLE}",
        )
    return python


def has_module(name: str) -> bool:
    """Whether the reference interpreter has a package; raises ConfigurationError when there is no interpreter."""
    command = [str(reference_python()), "-I", "-c", _LOOK, name]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    return done.returncode == 0
