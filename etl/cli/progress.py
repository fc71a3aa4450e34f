"""How long work is shown: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from etl.cli.common import err

LINE_SECONDS = 10.0


@contextmanager
def counted(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many of something are done; gives a function of (done, total).

    Args:
        title: What is worked on.
        unit: What is counted, in the plural.
    """
    if not err.is_terminal:
        said = time.monotonic()

        def say(done: int, total: int) -> None:
            nonlocal said
            if done == total or time.monotonic() - said > LINE_SECONDS:
                said = time.monotonic()
                err.print(f"{title}: {done}/{total} {unit}", markup=False)

        yield say
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
