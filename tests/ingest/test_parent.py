"""A child that watches its parent ends with it, even when the parent is killed."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

CHILD = """
import time
from etl.ingest.parent import exit_with_parent
exit_with_parent()
print("up", flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_child_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.1)


def test_a_child_whose_parent_was_gone_already_ends_at_once() -> None:
    script = (
        "from etl.ingest.parent import exit_with_parent; exit_with_parent(parent=1 << 22); import time; time.sleep(60)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=30).returncode == 1
