"""Stops a demo whose owner was killed: nothing a killed command started may linger.

Runs as ``python -m etl.demo.watchdog FOLDER`` with a pipe from the owner as its standard input. The pipe closes when
the owner ends, however it ends; after a clean end nothing is recorded as running and there is nothing to do. It holds
the folder's lock as long as it works, so that the next demo waits for it.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from etl.demo.processes import stop_all
from etl.demo.state import State


def main(folder: Path) -> None:
    """Wait for the owner's end, then stop what it left running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    state = State(folder)
    running = state.running()
    if running is not None:
        stop_all(running.processes, state.folder)
        state.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
