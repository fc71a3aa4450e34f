"""Compaction, sweep and gc as processes beside a writer, several of each, killed at any instant."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from care_pods import IMAGES, OLD, TABLES, key, live, work
from lake_ageing import age_files

from etl.lake import Lake, maintenance

ROLES = ("compact", "compact", "compact", "sweep", "sweep", "collect", "collect", "write")
LIVE, SUPERSEDED, DEAD = range(10), range(20, 30), range(40, 50)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_every_row_that_counts_is_there_once_and_no_other(lake: Lake, tmp_path: Path) -> None:
    for number in (*LIVE, *SUPERSEDED):
        work(lake, number, OLD[number % 2] if number in SUPERSEDED else "live")
    for number in DEAD:
        work(lake, number, "live", last=("tags", "nothing")[number % 2])
        age_files(Path(lake.uri) / "units" / key(number), 9)
        age_files(Path(lake.uri) / "units" / f"{key(number)}.json", 9)
    (tmp_path / "notes").mkdir()
    kills = keep_killing(lake, tmp_path / "notes", seconds=60)
    written = sorted(int(path.name) for path in (tmp_path / "notes").iterdir())
    work(lake, 1000 + len(written), "live")  # the one that was being written
    maintenance.sweep(lake)
    maintenance.collect(lake, OLD)
    wanted = {key(number): IMAGES for number in (*LIVE, *written, 1000 + len(written))}
    for name in TABLES:
        maintenance.compact(lake, name)
        assert Counter(lake.table(name).to_pyarrow_table()["unit"].to_pylist()) == wanted
    assert maintenance.sweep(lake, now=time.time()).taken == {}
    assert not [one for number in DEAD for one in lake.store.list(f"units/{key(number)}")]
    assert kills > 20
    assert len(written) > 5


def keep_killing(lake: Lake, notes: Path, seconds: float) -> int:
    """Start whatever does not run, kill some of it, again and again; returns the number of kills."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["etl.lake.maintenance", "etl.lake.orders"])  # else a kill meets imports only
    chance, kills, end = random.Random(0), 0, time.monotonic() + seconds

    def started(role: str) -> BaseProcess:
        pod = context.Process(target=live, args=(role, lake.uri, lake.settings, notes))
        pod.start()
        return pod

    pods = [started(role) for role in ROLES]
    try:
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.3, 1.2))
            for n, (role, pod) in enumerate(zip(ROLES, pods, strict=True)):
                assert pod.is_alive(), f"{role} ended with {pod.exitcode}"
                if chance.random() < 0.3:
                    pod.kill()
                    pod.join()
                    assert pod.exitcode == -signal.SIGKILL
                    kills += 1
                    pods[n] = started(role)
    finally:
        for pod in pods:
            pod.kill()
            pod.join()
    return kills
