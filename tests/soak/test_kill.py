"""Writers killed at any instant, beside readers and all kinds of maintenance: every row is there, once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from soak_harness import Report, Soak
from soak_world import World

from etl.lake import Lake
from etl.settings import Settings

FAULTS = {"error": 0.01, "slow_down": 0.02, "reset": 0.01, "slow": 0.02, "late": 0.02, "lost": 0.02, "false": 0.01}


def make(tmp_path: Path, world: World, uri: str | None = None) -> Lake:
    settings = Settings(scratch=tmp_path / "scratch", commit_deadline=120.0, slice_size=world.slice_size)
    lake = Lake.create(uri or str(tmp_path / "lake"), settings)
    world.prepare(lake)
    return lake


def on_disk(tmp_path: Path, world: World, rounds: int, writers: int, **options: float) -> Report:
    roles = {"write": writers, "read": 1, "compact": 1, "vacuum": 1, "sweep": 1, "take_down": 1}
    soak = Soak(make(tmp_path, world), tmp_path / "pods", world, roles=roles, window=max(3, writers // 2))
    return soak.run(rounds, **options)


def on_s3(
    tmp_path: Path, server: str, uri: str, world: World, rounds: int, writers: int, **options: float
) -> tuple[Report, FaultProxy]:
    lake = make(tmp_path, world, uri)
    roles = {"write": writers, "read": 1, "compact": 1}
    with FaultProxy(server, seed=4, rates=FAULTS) as proxy:
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        environment |= {"AWS_ENDPOINT_URL": proxy.url, "AWS_ALLOW_HTTP": "true"}
        soak = Soak(
            lake,
            tmp_path / "pods",
            world,
            roles=roles,
            window=max(2, writers // 2),
            environment=environment,
            faults=True,
        )
        return soak.run(rounds, **options), proxy


def test_killed_writers_leave_the_rows_of_a_run_without_faults(tmp_path: Path) -> None:
    report = on_disk(tmp_path, World(shards=3, pictures=6, slice_size=3), rounds=2, writers=3)
    assert report.kills["write"]
    assert report.orders["committed"]


def test_killed_writers_on_a_failing_s3_leave_the_rows_of_a_run_without_faults(
    tmp_path: Path, s3_server: str, s3_uri: str
) -> None:
    world = World(shards=2, pictures=4, slice_size=2)
    report, _ = on_s3(tmp_path, s3_server, s3_uri, world, rounds=2, writers=3)
    assert report.kills["write"]
    assert report.orders["committed"]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_hundred_rounds_of_32_writers_on_disk(tmp_path: Path) -> None:
    report = on_disk(tmp_path, World(), rounds=200, writers=32, kill=0.15, pause=1.0, end=1800.0)
    sys.stdout.write(f"\n{report}\n")
    assert report.rounds == 200


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_twenty_rounds_of_8_writers_on_a_failing_s3(tmp_path: Path, s3_server: str, s3_uri: str) -> None:
    world = World(shards=4, pictures=6, slice_size=3)
    report, proxy = on_s3(tmp_path, s3_server, s3_uri, world, rounds=20, writers=8, pause=10.0, end=1800.0)
    sys.stdout.write(f"\n{report}; requests {dict(proxy.counts)}\n")
    assert report.rounds == 20
