"""What a check says: one finding per kind of thing that is wrong, with the command that repairs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ERROR: Literal["error"] = "error"
NOTE: Literal["note"] = "note"
Severity = Literal["error", "note"]
Progress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class Finding:
    """Something a check found.

    Attributes:
        check: What found it, such as ``log.entry``.
        severity: ``error``: the lake is not what it should be; ``note``: work in progress, nothing is wrong.
        message: What it is.
        count: How many of them.
        example: One of them.
        remedy: What to do about it.
    """

    check: str
    severity: Severity
    message: str
    count: int
    example: str
    remedy: str


@dataclass(frozen=True)
class Scope:
    """How far a check goes.

    Attributes:
        tables: The tables it speaks of.
        sample: Pictures, and units, that are looked at one by one.
        everything: All of them instead, every log entry, and every row of every data file.
        seed: Chooses the sample; the same seed on the same lake gives the same one.
    """

    tables: tuple[str, ...]
    sample: int = 100
    everything: bool = False
    seed: int = 0


class Tally:
    """Counts cases of one kind and keeps the first as the example."""

    def __init__(self) -> None:
        self.count, self.example = 0, ""

    def add(self, example: object, count: int = 1) -> None:
        """Count a case."""
        self.example = self.example or str(example)
        self.count += count

    def finding(self, check: str, message: str, remedy: str, severity: Severity = ERROR) -> list[Finding]:
        """The finding; none when nothing was counted."""
        return [Finding(check, severity, message, self.count, self.example, remedy)] if self.count else []
