"""The command itself: quick to answer, and its exit code tells Airflow what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etl import __version__, errors

HEAVY = ("torch", "transformers", "deltalake", "duckdb", "boto3", "img2dataset", "airflow", "kubernetes", "pandas")


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "etl.cli.main", *arguments]
    wide = {**os.environ, "COLUMNS": "200", **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, env=wide, timeout=60, check=False)


def test_help_teaches_with_examples_and_loads_nothing_heavy() -> None:
    code = f"""
import sys
from etl.cli.main import app
app(["--help"], standalone_mode=False)
print("HEAVY", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "groundlake ingest run --urls" in done.stdout
    assert "HEAVY []" in done.stdout


def test_without_arguments_it_shows_the_help() -> None:
    assert "groundlake" in run().stdout


def test_version() -> None:
    assert run("--version").stdout.strip() == f"groundlake {__version__}"


def test_no_lake_is_a_configuration_error_with_the_way_out(tmp_path: Path) -> None:
    done = run("status")
    assert done.returncode == errors.EXIT_BAD_CONFIGURATION
    assert "ConfigurationError" in done.stderr
    assert "groundlake lake init" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_setting_ends_every_command_that_would_overlook_it() -> None:
    done = run("status", env={"GROUNDLAKE_LAK": "x"})
    assert done.returncode == errors.EXIT_BAD_CONFIGURATION
    assert "GROUNDLAKE_LAKE" in done.stderr


EXIT_CODES = {
    "ConfigurationError": 78,
    "DataError": 65,
    "RetryableError": 75,
    "GroundlakeError": 1,
    "StoppedError": 75,
}


@pytest.mark.parametrize(("error", "code"), EXIT_CODES.items())
def test_the_type_of_an_error_is_the_exit_code(error: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    from etl.cli.common import errors_end_the_process

    kind = getattr(errors, error)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as caught, errors_end_the_process():
            raise kind("what was [wrong]")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert caught.value.code == code
    assert "what was [wrong]" in capsys.readouterr().err, "brackets of a message are not markup"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_ends_as_retryable(number: signal.Signals) -> None:
    code = """
import time, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from etl.cli import main
@main.app.command()
def wait():
    print("ready", flush=True)
    time.sleep(60)
import sys
sys.argv = ["groundlake", "wait"]
main.main()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == errors.EXIT_RETRY
    assert number.name.encode() in err
    assert time.monotonic() - start < 10
