"""Runs in which something fails or nothing is to do, through ``dag.test()``: real Airflow tasks, real processes.

The commands are stand-ins that can be ordered to fail (``fake_commands.py``); the lake they write to is real.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rows import at, row

from etl.lake import Lake
from etl.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PART, UNKNOWN_STAGE, NO_SOURCE, MANIFEST, MAINTAIN = range(5)
JOBS = [
    {"dag": "annotate", "conf": {"stages": ["tag", "ground", "embed"], "force": True}},
    {"dag": "annotate", "conf": {"stages": ["colour"]}},
    {"dag": "ingest"},
    {"dag": "manifest", "conf": {"names": ["all-images"]}},
    {"dag": "maintain"},
]


@pytest.fixture(scope="module")
def seen(airflow: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("runs")
    lake = Lake.create(str(home / "lake"), Settings(scratch=home / "scratch"))
    ingest(lake, "aaaa", 0)
    ingest(lake, "bbbb", 10)
    (home / "catalog" / "manifests").mkdir(parents=True)
    (home / "catalog" / "manifests" / "all-images.yaml").write_text("format: jsonl\nsql: select image_id from images\n")
    program = home / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "fake_commands.py"} "$@"\n')
    program.chmod(0o755)
    return airflow(
        "run_dags.py",
        json.dumps(JOBS),
        GROUNDLAKE_LAKE=str(home / "lake"),
        GROUNDLAKE_CATALOG=str(home / "catalog"),
        GROUNDLAKE_SCRATCH=str(home / "scratch"),
        GROUNDLAKE_PYTHON=str(program),
        FAKE_FAILURES=json.dumps({"stage run ground * --group 1": 78, "manifest build *": 65, "lake vacuum": 78}),
    )


def test_failed_group_stops_its_own_later_stages_only(seen: Any) -> None:
    states = seen.results[PART]["states"]
    assert {name: states[name] for name in states if name.startswith("group")} == {
        "group.tag[0]": "success",
        "group.tag[1]": "success",
        "group.ground[0]": "success",
        "group.ground[1]": "failed",
        "group.caption[0]": "skipped",  # not asked for, and embed runs all the same
        "group.caption[1]": "upstream_failed",
        "group.embed[0]": "success",
        "group.embed[1]": "upstream_failed",
    }


def test_what_worked_is_announced_and_the_run_is_red_all_the_same(seen: Any) -> None:
    run = seen.results[PART]
    assert run["states"]["settle"] == "success"
    assert [(event["uri"], event["extra"]["sources"]) for event in run["events"]] == [
        ("groundlake://lake/annotations", ["pets"])
    ]
    assert run["events"][0]["extra"]["outcomes"] == {"ok": 20}  # tag of both groups, ground and embed of one
    assert run["states"]["verdict"] == run["state"] == "failed"


def test_verdict_names_what_failed_and_the_command_says_why(seen: Any) -> None:
    assert "task group.ground of pets bbbb failed" in seen.output
    assert "ended with 78 (bad configuration)" in seen.output
    assert "ordered to fail: stage run ground" in seen.output


def test_instances_are_labelled_by_source_and_shard(seen: Any) -> None:
    labels = seen.results[PART]["labels"]
    assert (labels["group.tag[0]"], labels["group.ground[1]"]) == ("pets aaaa", "pets bbbb")


def test_plan_with_a_wrong_form_fails_at_once_and_the_verdict_says_so(seen: Any) -> None:
    run = seen.results[UNKNOWN_STAGE]
    assert run["states"]["plan"] == "failed"
    assert run["states"]["settle"] == "skipped"
    assert run["states"]["verdict"] == run["state"] == "failed"
    assert run["events"] == []
    assert "unknown stage 'colour'; known: caption, embed, ground, tag" in seen.output
    assert "task plan failed" in seen.output


def test_run_with_nothing_to_do_is_green_and_starts_nothing_downstream(seen: Any) -> None:
    run = seen.results[NO_SOURCE]
    assert run["states"] == {
        "plan": "success",
        "shard.download": "skipped",
        "settle": "skipped",
        "verdict": "success",
    }
    assert run["state"] == "success"
    assert run["events"] == []
    assert "nothing to do" in seen.output


def test_manifest_that_cannot_be_built_turns_its_run_red_without_an_event(seen: Any) -> None:
    run = seen.results[MANIFEST]
    assert run["states"] == {"plan": "success", "manifest.build[0]": "failed", "settle": "skipped", "verdict": "failed"}
    assert run["state"] == "failed"
    assert run["events"] == []


def test_maintenance_step_that_fails_stops_no_other_and_the_run_is_red(seen: Any) -> None:
    run = seen.results[MAINTAIN]
    steps = ("compact", "checkpoint", "purge", "vacuum", "sweep", "check", "verdict")
    failed = ("vacuum", "verdict")
    assert run["states"] == {step: "failed" if step in failed else "success" for step in steps}
    assert run["state"] == "failed"
    assert "task vacuum failed" in seen.output


def ingest(lake: Lake, shard: str, first: int) -> None:
    shared = {"shard_id": shard, "attempt": 1}
    unit, names = f"unit-{shard}", [f"{number:032x}" for number in range(first, first + 5)]
    lake.append("shards", [row("shards", **shared, source="pets", planned_at=at(first))], f"s-{shard}")
    lake.append("images", [row("images", **shared, unit=unit, image_id=name) for name in names], f"i-{shard}")
    fates = [row("downloads", **shared, unit=unit, status="ok", url=name) for name in names]
    lake.append("downloads", fates, f"i-{shard}")
