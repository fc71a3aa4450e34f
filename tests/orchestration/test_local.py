from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from airflow.sdk.exceptions import AirflowSkipException

from etl.orchestration.local import LocalCommandOperator
from etl.orchestration.retry import StageBadData, StageRetryable

Interpreter = Callable[[str], str]


def operator(interpreter: str, *arguments: str, **options) -> LocalCommandOperator:
    options.setdefault("reference", {})
    return LocalCommandOperator(task_id="t", interpreter=interpreter, arguments=list(arguments), **options)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_command_is_the_module_of_the_command_line(interpreter: Interpreter, tmp_path: Path) -> None:
    operator(interpreter('echo "$@" > seen'), "lake", "compact").execute({})
    assert (tmp_path / "seen").read_text() == "-m etl.cli.main lake compact\n"


def test_output_goes_to_the_log_line_by_line(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    task, lines = operator(interpreter("echo one; echo two >&2")), []
    monkeypatch.setattr(task.log, "info", lambda text, *values: lines.append(text % values))
    task.execute({})
    assert lines[-2:] == ["one", "two"]


@pytest.mark.parametrize(
    ("code", "expected"), [(65, StageBadData), (78, StageBadData), (75, StageRetryable), (3, StageRetryable)]
)
def test_exit_status_becomes_an_exception_with_the_last_words(
    interpreter: Interpreter, code: int, expected: type[Exception]
) -> None:
    with pytest.raises(expected, match=f"ended with {code}(.|\n)*disk full"):
        operator(interpreter(f"echo disk full; exit {code}")).execute({})


def test_command_gets_the_lake_but_no_setting_of_airflow(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groundlake.yaml").write_text("lake: my-lake\ncatalog: my-catalog\n")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("GROUNDLAKE_DEVICE", "cpu")
    operator(interpreter("env > seen")).execute({})
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert seen["GROUNDLAKE_LAKE"] == str(tmp_path / "my-lake")
    assert seen["GROUNDLAKE_CATALOG"] == str(tmp_path / "my-catalog")
    assert seen["GROUNDLAKE_DEVICE"] == "cpu"
    assert not [name for name in seen if name.startswith("AIRFLOW__")]


def test_stage_that_was_not_asked_for_is_skipped_without_a_process(interpreter: Interpreter, tmp_path: Path) -> None:
    task = operator(interpreter("touch started"), stage="caption", reference={"stages": ["tag", "ground"]})
    with pytest.raises(AirflowSkipException, match="caption was not asked for"):
        task.execute({})
    assert not (tmp_path / "started").exists()


def test_kill_lets_the_command_finish_its_slice(interpreter: Interpreter, tmp_path: Path) -> None:
    body = "trap 'sleep 0.3; touch flushed; exit 75' TERM\ntouch started\nwhile :; do sleep 0.05; done"
    task = operator(interpreter(body))
    killer = threading.Thread(target=lambda: (wait_for((tmp_path / "started").exists), task.on_kill(), task.on_kill()))
    killer.start()
    with pytest.raises(StageRetryable, match="75"):
        task.execute({})
    killer.join()
    assert (tmp_path / "flushed").exists()


def test_kill_ends_the_whole_process_group_even_what_ignores_sigterm(interpreter: Interpreter, tmp_path: Path) -> None:
    # The child writes its process id first, so that the test knows whom to look for.
    body = "trap '' TERM\nsh -c \"trap '' TERM; echo \\$\\$ > child; while :; do sleep 0.05; done\" &\nwait; sleep 60"
    task = operator(interpreter(body), grace_seconds=0.5)
    child = tmp_path / "child"
    killer = threading.Thread(
        target=lambda: (wait_for(lambda: child.exists() and bool(child.read_text())), task.on_kill())
    )
    killer.start()
    with pytest.raises(StageRetryable, match=f"killed by signal {signal.SIGKILL.value}"):
        task.execute({})
    killer.join()
    wait_for(lambda: gone(int(child.read_text())))


def test_exception_in_the_task_ends_the_command_too(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = operator(interpreter("echo $$ > started; echo line; exec sleep 60"))

    def time_out(*_: object) -> None:
        if (tmp_path / "started").exists():
            raise TimeoutError

    monkeypatch.setattr(task.log, "info", time_out)
    with pytest.raises(TimeoutError):
        task.execute({})
    assert gone(int((tmp_path / "started").read_text()))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_killing_before_the_start_or_after_the_end_does_nothing(interpreter: Interpreter) -> None:
    task = operator(interpreter("exit 0"))
    task.on_kill()
    task.execute({})
    task.on_kill()
