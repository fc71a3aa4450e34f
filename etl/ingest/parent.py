"""A process that ends when its parent ends, however the parent ended."""

from __future__ import annotations

import os
import signal
import threading
import time

_INTERVAL = 0.5


def exit_with_parent(*, group: bool = False, parent: int | None = None) -> None:
    """Watch the parent from a thread; when it is gone, end this process.

    A thread rather than Linux' death signal: it works on every Unix, and that signal is sent when the parent's
    *thread* ends.

    Args:
        group: Kill the whole process group; only for one that leads a group of its own.
        parent: The parent's process id; the present one by default.
    """
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(_INTERVAL)
        if group:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()
