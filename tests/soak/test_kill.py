"""Writers killed at any instant, beside readers and all kinds of maintenance: every row is there, once."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from soak_harness import Soak
from soak_world import World

from etl.lake import Lake
from etl.settings import Settings

CARE = {"read": 1, "compact": 1, "vacuum": 1, "sweep": 1, "take_down": 1}
FAULTS = {"error": 0.01, "slow_down": 0.02, "reset": 0.01, "slow": 0.02, "late": 0.02, "lost": 0.02, "false": 0.01}


def make(tmp_path: Path, world: World, uri: str | None = None, *, annotators: bool = True) -> Lake:
    settings = Settings(scratch=tmp_path / "scratch", commit_deadline=120.0, slice_size=world.slice_size)
    lake = Lake.create(uri or str(tmp_path / "lake"), settings)
    world.prepare(lake, annotators=annotators)
    return lake


def age_on_moto(lake: Lake, key: str) -> None:
    """As ``age_on_disk``, behind the server's back: it runs in this process."""
    bucket, prefix = lake.store.bucket, lake.store.prefix
    for name, found in list(s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys.items()):
        if name == f"{prefix}/units/{key}.json" or name.startswith(f"{prefix}/units/{key}/"):
            found.last_modified -= timedelta(days=30)


def behind_faults(server: str) -> tuple[FaultProxy, dict[str, str]]:
    """A proxy that loses and delays requests; and what a process needs to come through it, once it is entered."""
    return FaultProxy(server, seed=4, rates=FAULTS), {n: v for n, v in os.environ.items() if n.startswith("AWS_")}


def test_killed_writers_leave_the_rows_of_a_run_without_faults(tmp_path: Path) -> None:
    world = World(shards=3, pictures=6, slice_size=3)
    soak = Soak(make(tmp_path, world), tmp_path / "pods", world, roles={"write": 3, "read": 1, "maintain": 1}, window=3)
    report = soak.run(2)
    assert report.kills["write"]
    assert report.orders["committed"]


def test_killed_writers_on_a_failing_s3_leave_the_rows_of_a_run_without_faults(
    tmp_path: Path, s3_server: str, s3_uri: str
) -> None:
    world = World(shards=1, pictures=4, slice_size=2)
    lake = make(tmp_path, world, s3_uri, annotators=False)
    proxy, aws = behind_faults(s3_server)
    with proxy:
        environment = aws | {"AWS_ENDPOINT_URL": proxy.url}
        folder = tmp_path / "pods"
        soak = Soak(lake, folder, world, roles={"write": 2}, window=2, environment=environment, faults=True)
        report = soak.run(2)
    assert report.kills["write"]
    assert report.orders["committed"]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_hundred_rounds_of_32_writers_on_disk(tmp_path: Path) -> None:
    world = World()
    roles = {"write": 32, **CARE, "read": 2, "compact": 2}
    soak = Soak(make(tmp_path, world), tmp_path / "pods", world, roles=roles, window=16)
    report = soak.run(200, kill=0.15, pause=1.0, end=1800.0)
    sys.stdout.write(f"\n{report}\n")
    assert report.rounds == 200


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_twenty_rounds_of_8_writers_on_a_failing_s3(tmp_path: Path, s3_server: str, s3_uri: str) -> None:
    world = World(shards=4, pictures=6, slice_size=3)
    lake = make(tmp_path, world, s3_uri)
    proxy, aws = behind_faults(s3_server)
    with proxy:
        environment, folder = aws | {"AWS_ENDPOINT_URL": proxy.url}, tmp_path / "pods"
        roles = {"write": 8, **CARE}
        soak = Soak(lake, folder, world, roles=roles, window=5, environment=environment, faults=True, age=age_on_moto)
        report = soak.run(20, pause=10.0, end=1800.0)
    sys.stdout.write(f"\n{report}; requests {dict(proxy.counts)}\n")
    assert report.rounds == 20
