from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from etl.errors import ConfigurationError, UnknownNameError
from etl.orchestration.callbacks import failure_callback
from etl.orchestration.local import LocalCommandOperator
from etl.orchestration.params import annotate_params, ingest_params, manifest_params
from etl.orchestration.place import catalog_or_nothing, command_environment, open_place
from etl.orchestration.pools import pools
from etl.orchestration.retry import RETRIES, GroundlakeRetryPolicy
from etl.orchestration.stage_task import stage_task
from etl.settings import Settings


@pytest.mark.parametrize("profile", ["local", "kubernetes"])
def test_both_profiles_share_retries_pool_order_and_names(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_STAGE_POOL", "h200")
    task = stage_task("tag", ["stage"], profile=profile)
    assert (task.retries, task.pool, task.do_xcom_push) == (RETRIES, "h200", False)
    assert isinstance(task.retry_policy, GroundlakeRetryPolicy)
    assert task.weight_rule == "upstream"  # depth-first
    assert task.map_index_template == "{{ task.subject }}"
    assert {"reference", "subject"} <= set(task.template_fields)


def test_profile_of_the_settings_decides_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(stage_task("a", []), LocalCommandOperator)
    monkeypatch.setenv("GROUNDLAKE_PROFILE", "kubernetes")
    assert type(stage_task("a", [])).__name__ == "PodCommandOperator"
    assert isinstance(stage_task("a", [], profile="local"), LocalCommandOperator)


def test_interpreter_of_the_commands_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_PYTHON", "/opt/stages/bin/python")
    task = stage_task("a", ["lake", "stats"])
    assert isinstance(task, LocalCommandOperator)
    assert task.command == ["/opt/stages/bin/python", "-m", "etl.cli.main", "lake", "stats"]


def test_wrong_setting_is_named_when_dags_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_STAGE_POOLS", "x")
    with pytest.raises(UnknownNameError, match="GROUNDLAKE_STAGE_POOLS"):
        stage_task("a", [])


def test_failure_callback_is_imported_when_a_task_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_FAILURE_CALLBACK", "my_alerts:failed")
    call = failure_callback()  # my_alerts does not exist yet
    module, seen = ModuleType("my_alerts"), []
    module.failed = seen.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_alerts", module)
    assert call is not None
    call({"run_id": "r"})
    assert seen == [{"run_id": "r"}]


def test_failure_callback_that_cannot_be_a_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_FAILURE_CALLBACK", "my_alerts.failed")
    with pytest.raises(ConfigurationError, match="expected module:function"):
        failure_callback()


@pytest.mark.parametrize("name", ["no_such_module:f", "os:no_such_function", "os:sep"])
def test_failure_callback_that_is_not_there_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_FAILURE_CALLBACK", name)
    call = failure_callback()
    assert call is not None
    with pytest.raises(ConfigurationError, match=name):
        call({})


def test_installation_without_callback_has_none() -> None:
    assert failure_callback() is None


def test_variables_win_over_the_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "groundlake.yaml").write_text("lake: of-the-file\n")
    monkeypatch.setenv("GROUNDLAKE_LAKE", "s3://of/the-environment")
    assert command_environment() == {"GROUNDLAKE_LAKE": "s3://of/the-environment"}


def test_broken_catalog_empties_the_suggestions_and_fails_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog" / "sources").mkdir(parents=True)
    (tmp_path / "catalog" / "sources" / "pets.yaml").write_text("no_such_key: 1\n")
    monkeypatch.setenv("GROUNDLAKE_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("GROUNDLAKE_LAKE", str(tmp_path / "lake"))
    assert catalog_or_nothing().sources == {}
    assert ingest_params()["sources"].schema.get("examples") is None
    with pytest.raises(ConfigurationError, match=r"pets\.yaml: no_such_key"):
        open_place()


def test_forms_suggest_what_the_catalog_has_and_sources_of_the_command_line_can_be_annotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog" / "sources").mkdir(parents=True)
    (tmp_path / "catalog" / "sources" / "pets.yaml").write_text("uri: pets.csv\n")
    monkeypatch.setenv("GROUNDLAKE_CATALOG", str(tmp_path / "catalog"))
    assert ingest_params()["sources"].schema["examples"] == ["pets"]
    param = annotate_params()["sources"]
    assert "`pets`" in param.schema["description_md"]
    assert "examples" not in param.schema  # a list with suggestions takes nothing else in the UI
    assert param.resolve(["made-by-the-command-line"]) == ["made-by-the-command-line"]
    assert param.resolve(None) is None


@pytest.mark.parametrize("form", [ingest_params, annotate_params, manifest_params])
def test_every_field_has_a_title_a_section_a_description_and_a_valid_default(form: Any) -> None:
    for param in form().values():
        assert {"title", "section", "description_md", "type"} <= set(param.schema)
        param.resolve()


def test_annotate_form_offers_what_a_person_may_choose() -> None:
    assert set(annotate_params()) == {"sources", "shards", "stages", "models", "force"}


def test_pools_of_stages_and_downloads_exist_in_both_profiles() -> None:
    settings = Settings(stage_pool="h200")
    for profile in ("local", "kubernetes"):
        found = pools(settings, profile)
        assert set(found) == {"h200", "download"}
        assert all(pool.slots >= 1 and pool.description for pool in found.values())
