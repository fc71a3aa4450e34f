"""What the demo tells: phases with their seconds, one line per event, and a spinner where there is a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table


class Report:
    """Prints to a console; in a file or a pipe the same lines appear, without the spinner.

    Args:
        console: Where to print.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.phases: list[tuple[str, float]] = []
        self._status: Status | None = None
        self._title = ""
        self._begin = time.monotonic()

    def line(self, text: str, style: str | None = None) -> None:
        """Print a line. The text is never read as markup: it may hold urls, paths and logs."""
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table, whole numbers to the right."""
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        content = [tuple(row) for row in rows]
        for number, name in enumerate(columns):
            numeric = any(isinstance(row[number], int) for row in content)
            table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=number == 0)
        for row in content:
            table.add_row(*(str(value) for value in row))
        self.console.print(table, markup=False)

    def working(self, text: str) -> None:
        """Say what is being waited for, beside the spinner."""
        if self._status is not None:
            self._status.update(f"{self._title}: {text}")

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Name what happens in this block, and say afterwards how long it took."""
        begin = time.monotonic()
        self.line(f"{title} ...", "bold")
        self._title = title
        with self.console.status(title) as self._status:
            yield
        self._status = None
        seconds = time.monotonic() - begin
        self.phases.append((title, seconds))
        self.line(f"  done in {seconds:.0f} s", "dim")

    def times(self) -> str:
        """Seconds since this report began, and of each phase, in one line."""
        parts = [f"{title.lower()} {seconds:.0f} s" for title, seconds in self.phases]
        return f"{time.monotonic() - self._begin:.0f} s in all: {', '.join(parts)}"
