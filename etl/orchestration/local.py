"""Profile ``local``: a groundlake command as a subprocess of the task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperator, Context

from etl.orchestration.command import FIELDS, MODULE, SUBJECT, skip_unless_asked
from etl.orchestration.place import command_environment
from etl.orchestration.retry import error_of_exit

GRACE_SECONDS = 30.0
LAST_LINES = 5


class LocalCommandOperator(BaseOperator):
    """Runs ``python -m etl.cli.main <arguments>`` in a process group of its own.

    Args:
        arguments: Command line of groundlake; templates.
        reference: What it works on; see ``stage_task``.
        stage: The stage that ``reference["stages"]`` must name.
        interpreter: The Python that has what the command needs.
        grace_seconds: Time a stopped command has to finish its slice, before it is killed.
    """

    template_fields = (*FIELDS, "arguments")
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        arguments: list[str],
        reference: Mapping[str, Any],
        stage: str | None = None,
        interpreter: str = sys.executable,
        grace_seconds: float = GRACE_SECONDS,
        **operator: Any,
    ) -> None:
        super().__init__(**operator)
        self.arguments = arguments
        self.reference = reference
        self.subject = SUBJECT
        self.stage = stage
        self.interpreter = interpreter
        self.grace_seconds = grace_seconds
        self._process: subprocess.Popen[str] | None = None
        self._stopping = False

    @property
    def command(self) -> list[str]:
        """The whole command line."""
        return [self.interpreter, *MODULE, *self.arguments]

    def execute(self, context: Context) -> None:
        skip_unless_asked(self.stage, self.reference)
        self.log.info("groundlake %s", " ".join(self.arguments))
        self._process = subprocess.Popen(  # noqa: S603 - the command line is ours
            self.command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        last = deque[str](maxlen=LAST_LINES)
        try:
            for line in self._process.stdout or ():
                self.log.info("%s", line.rstrip())
                last.append(line)
            code = self._process.wait()
        finally:
            self.on_kill()  # a time-out of the task ends the command too; does nothing when it has ended
            self._process.wait()
        if code != 0:
            raise error_of_exit(code, f"groundlake {' '.join(self.arguments)}", "".join(last))

    def on_kill(self) -> None:
        """Ask the command's process group to end; after the grace period it is killed, whatever becomes of us.

        Airflow kills this process five seconds after asking it to end, so a helper outside of it holds the deadline.
        Returns at once: ``execute`` goes on logging what the command says while it finishes its slice.
        """
        process = self._process
        if self._stopping or process is None or process.poll() is not None:
            return
        self._stopping = True  # a second signal would interrupt the command where it finishes its slice
        os.killpg(process.pid, signal.SIGTERM)
        subprocess.Popen(  # noqa: S603 - our own helper
            [sys.executable, "-m", "etl.orchestration.reaper", str(process.pid), str(self.grace_seconds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _environment() -> dict[str, str]:
    """Our own environment without Airflow's settings and secrets, which a stage has no use for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    return {**kept, **command_environment(), "PYTHONUNBUFFERED": "1"}
