"""What Airflow sees when it reads the DAG files: no errors, nothing heavy, and every promise of the design kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from etl.orchestration.pools import pools
from etl.settings import Settings

HEAVY = ("torch", "transformers", "deltalake", "img2dataset", "duckdb", "boto3", "kubernetes", "pyarrow", "numpy")
NAMES = ("annotate", "ingest", "maintain", "manifest")


@pytest.fixture(scope="session")
def facts(airflow: Callable[..., Any]) -> dict[str, Any]:
    return airflow("dag_facts.py").results[0]


@pytest.fixture(params=NAMES)
def dag(request: pytest.FixtureRequest, facts: dict[str, Any]) -> dict[str, Any]:
    return facts["dags"][request.param]


def test_every_file_can_be_read(facts: dict[str, Any]) -> None:
    assert facts["import_errors"] == {}
    assert sorted(facts["dags"]) == sorted(NAMES)


def test_reading_the_files_imports_nothing_heavy(facts: dict[str, Any]) -> None:
    assert set(HEAVY) & set(facts["modules"]) == set()


def test_each_file_is_read_in_well_under_five_seconds(facts: dict[str, Any]) -> None:
    assert set(facts["seconds"]) == {f"{name}.py" for name in NAMES}
    assert max(facts["seconds"].values()) < 5


def test_dag_says_what_it_does_when_it_runs_and_what_red_means(dag: dict[str, Any]) -> None:
    assert dag["owner"] == "groundlake"
    assert "groundlake" in dag["tags"]
    assert len(dag["tags"]) > 1
    assert dag["description"]
    for part in ("**When**", "**Again**", "**Red**"):
        assert part in dag["doc"]


def test_dag_neither_catches_up_nor_overtakes_itself(dag: dict[str, Any]) -> None:
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert dag["start_date"] is None  # else Airflow makes up for the night before the installation


def test_tasks_retry_by_error_type_in_pools_that_exist(dag: dict[str, Any]) -> None:
    known = {"default_pool", *pools(Settings())}
    for name, task in dag["tasks"].items():
        assert task["owner"] == "groundlake", name
        assert task["retries"] >= 1, name
        assert task["policy"] == "GroundlakeRetryPolicy", name
        assert task["pool"] in known, name


def test_commands_finish_what_was_begun_first_and_push_nothing(dag: dict[str, Any]) -> None:
    commands = [task for task in dag["tasks"].values() if task["operator"] == "LocalCommandOperator"]
    assert commands
    for task in commands:
        assert task["weight_rule"] == "upstream"
        assert task["push"] is False
        assert task["label"]


@pytest.mark.parametrize(
    ("name", "cron", "assets"),
    [
        ("ingest", "0 2 * * *", []),
        ("annotate", "0 3 * * *", ["groundlake://lake/images"]),
        ("manifest", None, ["groundlake://lake/annotations"]),
        ("maintain", "0 4 * * *", []),
    ],
)
def test_schedule(facts: dict[str, Any], name: str, cron: str | None, assets: list[str]) -> None:
    assert (facts["dags"][name]["cron"], facts["dags"][name]["assets"]) == (cron, assets)


@pytest.mark.parametrize(
    ("name", "asset"), [("ingest", "images"), ("annotate", "annotations"), ("manifest", "manifests")]
)
def test_settle_announces_what_worked_and_verdict_comes_last(facts: dict[str, Any], name: str, asset: str) -> None:
    tasks = facts["dags"][name]["tasks"]
    assert tasks["settle"]["outlets"] == [f"groundlake://lake/{asset}"]
    assert "settle" in tasks["verdict"]["upstream"]
    assert {tasks["settle"]["trigger_rule"], tasks["verdict"]["trigger_rule"]} == {"TriggerRule.ALL_DONE"}
    assert not [one for one in tasks.values() if "verdict" in one["upstream"]]


def test_forms(facts: dict[str, Any]) -> None:
    assert facts["dags"]["ingest"]["params"] == ["retry_failed", "shards", "sources"]
    assert facts["dags"]["annotate"]["params"] == ["force", "models", "shards", "sources", "stages"]
    assert facts["dags"]["manifest"]["params"] == ["names"]


def test_stages_run_in_order_and_downloads_in_their_own_pool(facts: dict[str, Any]) -> None:
    tasks = facts["dags"]["annotate"]["tasks"]
    for before, after in (("tag", "ground"), ("ground", "caption"), ("caption", "embed")):
        assert f"group.{before}" in tasks[f"group.{after}"]["upstream"]
    assert facts["dags"]["ingest"]["tasks"]["shard.download"]["pool"] == "download"


def test_maintenance_goes_on_after_a_step_that_failed_and_is_red_all_the_same(facts: dict[str, Any]) -> None:
    tasks = facts["dags"]["maintain"]["tasks"]
    steps = ["compact", "checkpoint", "purge", "vacuum", "sweep", "check", "verdict"]
    assert [tasks[step]["upstream"] for step in steps] == [[], *([step] for step in steps[:-1])]
    assert {tasks[step]["trigger_rule"] for step in steps} == {"TriggerRule.ALL_DONE"}
    assert [tasks[step]["arguments"] for step in steps[2:6]] == [
        ["takedown", "purge"],
        ["lake", "vacuum"],
        ["lake", "sweep"],
        ["lake", "check", "--sample", "1000"],
    ]


@pytest.mark.parametrize("profile", ["kubernetes"])
def test_files_can_be_read_in_the_other_profile(airflow: Callable[..., Any], profile: str) -> None:
    facts = airflow("dag_facts.py", GROUNDLAKE_PROFILE=profile, GROUNDLAKE_LAKE="s3://bucket/lake").results[0]
    assert facts["import_errors"] == {}
    assert facts["dags"]["annotate"]["tasks"]["group.tag"]["operator"] == "PodCommandOperator"


def test_broken_catalog_takes_no_dag_off_the_screen(airflow: Callable[..., Any]) -> None:
    facts = airflow("dag_facts.py", GROUNDLAKE_CATALOG="/no/such/folder").results[0]
    assert facts["import_errors"] == {}
    assert sorted(facts["dags"]) == sorted(NAMES)
