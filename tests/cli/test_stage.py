"""``groundlake stage run`` as Airflow and pods call it: lines, exit codes, and what a killed process leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_stages
import pytest
from handmade import Handmade, Picture

from etl.lake import Lake, Snapshot
from etl.settings import load_catalog
from etl.stages.planning import plan_request

TESTS = Path(fake_stages.__file__).parent
COMMAND = "import fake_stages; fake_stages.install(); from etl.cli.main import main; main()"


@pytest.fixture
def hand(lake: Lake, tmp_path, monkeypatch) -> Handmade:
    """A lake that commands find, with a catalog of fake models."""
    fake_stages.install(monkeypatch)
    monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
    monkeypatch.setenv("GROUNDLAKE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("GROUNDLAKE_SLICE_SIZE", "10")
    monkeypatch.setenv("GROUNDLAKE_DEVICE", "cpu")  # auto would import torch, for seconds
    monkeypatch.setenv("GROUNDLAKE_CATALOG", str(tmp_path / "catalog"))
    return Handmade(lake)


def request(lake: Lake, tmp_path: Path, stages: tuple[str, ...] = ("tag",), **options: Any) -> str:
    folder = fake_stages.write_catalog(
        tmp_path / "catalog", fake_stages.entry("tag", **options), fake_stages.entry("ground")
    )
    models = {"tag": "fake-tag", "ground": "fake-ground"}
    return plan_request(lake, load_catalog(folder), "r", stages=stages, models=models).key


def raw(lake: Lake, table: str) -> list[dict[str, Any]]:
    with Snapshot.take(lake).connect() as connection:
        return connection.sql(f"select * from raw.{table}").to_arrow_table().to_pylist()


def test_it_prints_a_line_per_slice_and_a_last_one_with_all_counts(groundlake, hand, lake, tmp_path):
    hand.add(*(Picture(seed=n) for n in range(12)))
    key = request(lake, tmp_path, fails=hand.ids[:1])
    ran = groundlake("stage", "run", "tag", "--request", key, "--group", 0)
    lines = ran.out.strip().splitlines()

    assert ran.code == 0
    assert [line.split(" images: ")[0].split(", ", 1)[1] for line in lines[:2]] == [
        "slice 1/2, 10/12",
        "slice 2/2, 12/12",
    ]
    assert lines[2].startswith("tag (fake-tag): 12 images: 1 failed/not_finite, 11 ok; ")
    assert lines[2].endswith("UNTRAINED weights: these answers mean nothing")


def test_a_repeated_task_says_that_an_earlier_try_did_the_work(groundlake, hand, lake, tmp_path):
    hand.add(Picture(seed=1))
    key = request(lake, tmp_path)
    groundlake("stage", "run", "tag", "--request", key)
    ran = groundlake("stage", "run", "tag", "--request", key)

    assert ran.code == 0
    assert "1 images (1 by an earlier try): 1 ok" in ran.out


def test_a_stage_whose_upstream_never_ran_has_nothing_to_do_and_says_why(groundlake, hand, lake, tmp_path):
    hand.add(Picture(seed=1))
    key = request(lake, tmp_path, ("tag", "ground"))
    ran = groundlake("stage", "run", "ground", "--request", key)

    assert (ran.code, ran.out.splitlines()[0]) == (
        0,
        "ground (fake-ground): nothing to do; 1 images wait for stage tag; "
        "UNTRAINED weights: these answers mean nothing",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("tag", "--request", "nobody"), 65, "no object"),
        (("paint", "--request", "KEY"), 78, "unknown stage 'paint'; known: caption, embed, ground, tag"),
        (("tag", "--request", "KEY", "--group", "7"), 65, "has 1 groups, there is no number 7"),
        (("tag", "--request", "KEY", "--device", "cuda:x"), 78, "known: auto, cpu, cuda, cuda:N"),
    ],
)
def test_a_mistake_ends_with_its_code_and_the_way_out(groundlake, hand, lake, tmp_path, arguments, code, words):
    hand.add(Picture(seed=1))
    key = request(lake, tmp_path)
    ran = groundlake("stage", "run", *(key if one == "KEY" else one for one in arguments))

    assert ran.code == code
    assert words in ran.err


class TestKilled:
    """Real processes and real signals: only these show that nothing is lost and nothing is doubled."""

    @pytest.fixture
    def started(self, lake: Lake) -> Iterator[Any]:
        running: list[subprocess.Popen[str]] = []

        def start(key: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", COMMAND, "stage", "run", "tag", "--request", key]
            environment = {**os.environ, "PYTHONPATH": str(TESTS)}
            pipe = subprocess.PIPE
            running.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
            return running[-1]

        yield start
        for process in running:
            process.kill()
            process.communicate()

    @staticmethod
    def wait_for_slice(lake: Lake, process: subprocess.Popen[str], number: int) -> None:
        deadline = time.monotonic() + 100
        while not any(found.key.endswith(f"/{number:05d}.json") for found in lake.store.list("units/")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no slice was finished"
            time.sleep(0.02)

    def test_sigterm_ends_with_75_and_the_next_try_resumes_at_the_next_slice(
        self, groundlake, hand, lake, tmp_path, started
    ):
        hand.add(*(Picture(size=(24, 16), seed=n, format="PNG") for n in range(25)))
        key = request(lake, tmp_path, seconds=0.1)
        process = started(key)
        self.wait_for_slice(lake, process, 0)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=100)

        assert process.returncode == 75, errors
        assert "StoppedError: stopped by SIGTERM" in errors
        assert raw(lake, "outcomes") == []
        assert list((tmp_path / "scratch").glob("stage-*")) == []

        ran = groundlake("stage", "run", "tag", "--request", key)

        assert "by an earlier try): 25 ok" in ran.out
        assert sorted(row["image_id"] for row in raw(lake, "outcomes")) == sorted(hand.ids)
        assert sorted(row["image_id"] for row in raw(lake, "tags")) == sorted(hand.ids)

    def test_after_kill_nine_two_tries_at_once_end_with_each_row_once(self, hand, lake, tmp_path, started):
        hand.add(*(Picture(size=(24, 16), seed=n, format="PNG") for n in range(25)))
        key = request(lake, tmp_path, seconds=0.05)
        process = started(key)
        self.wait_for_slice(lake, process, 0)
        process.kill()
        process.communicate()
        twins = [started(key), started(key)]
        said = [twin.communicate(timeout=100) for twin in twins]

        assert [twin.returncode for twin in twins] == [0, 0], said
        assert all("25 images" in out and " 25 ok" in out for out, _ in said)
        assert sorted(row["image_id"] for row in raw(lake, "outcomes")) == sorted(hand.ids)
        assert sorted(row["image_id"] for row in raw(lake, "tags")) == sorted(hand.ids)
        assert len({row["unit"] for row in raw(lake, "outcomes")}) == 1
