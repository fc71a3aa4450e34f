"""The typed errors of groundlake: each says what was wrong, what to do next, and how a task should end.

Retry policy is a property of the type, never of the text: a process ends with ``exit_code``, and
the Airflow operators turn that code back into "retry" or "fail now".
"""

from __future__ import annotations

from typing import ClassVar

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_DATA = 65  # EX_DATAERR in sysexits.h
EXIT_RETRY = 75  # EX_TEMPFAIL
EXIT_BAD_CONFIGURATION = 78  # EX_CONFIG


class GroundlakeError(Exception):
    """Root of every error groundlake raises on purpose.

    Args:
        message: What was wrong, with the offending value and what was expected.
        remedy: What the reader should do next; shown on a line of its own.
    """

    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.remedy}" if self.remedy else self.message


class ConfigurationError(GroundlakeError):
    """A setting, catalog entry or option is wrong; trying again changes nothing."""

    exit_code = EXIT_BAD_CONFIGURATION


class UnknownNameError(ConfigurationError):
    """A name is not among the known ones; the message lists those."""

    def __init__(self, kind: str, received: object, known: list[str], *, remedy: str | None = None) -> None:
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(f"unknown {kind} {received!r}; known: {listed}", remedy=remedy)
        self.kind, self.received, self.known = kind, received, known


class DataError(GroundlakeError):
    """The input is wrong (an unreadable list, a missing column); trying again changes nothing."""

    exit_code = EXIT_BAD_DATA


class RetryableError(GroundlakeError):
    """The place failed (disk, memory, network, store, a signal): nothing was half written, try again."""

    exit_code = EXIT_RETRY


class StoppedError(RetryableError):
    """The process was told to stop (SIGTERM): nothing more may be begun, what is finished stays."""
