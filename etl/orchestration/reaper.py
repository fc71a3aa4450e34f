"""Kill a process group that did not end in time: ``python -m etl.orchestration.reaper GROUP SECONDS``.

A process of its own, since the one that asked the group to end may itself be killed before the time is over.
"""

from __future__ import annotations

import os
import signal
import sys
import time

POLL_SECONDS = 0.2


def reap(group: int, seconds: float) -> bool:
    """Wait until no process of ``group`` is left, at most ``seconds``; then SIGKILL it. Returns whether it killed."""
    deadline = time.monotonic() + seconds
    while _lives(group):
        if time.monotonic() >= deadline:
            os.killpg(group, signal.SIGKILL)
            return True
        time.sleep(POLL_SECONDS)
    return False


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    reap(int(sys.argv[1]), float(sys.argv[2]))
