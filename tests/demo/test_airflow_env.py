"""The environment of the demo's Airflow: loopback only, nothing of the caller's, secrets kept and closed."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from etl.demo.airflow_env import AirflowSite


@pytest.fixture
def site(tmp_path: Path) -> AirflowSite:
    return AirflowSite(tmp_path / "airflow", tmp_path / "dags", tmp_path / "plugins", 4711, {"GROUNDLAKE_LAKE": "/l"})


def _ours(site: AirflowSite) -> dict[str, str]:
    return {name: value for name, value in site.environment().items() if name.startswith(("AIRFLOW", "GROUNDLAKE"))}


def test_every_address_is_loopback(site: AirflowSite) -> None:
    addresses = [host for value in _ours(site).values() for host in re.findall(r"https?://([^:/]+)", value)]
    assert addresses
    assert set(addresses) == {"127.0.0.1"}
    assert _ours(site)["AIRFLOW__API__HOST"] == "127.0.0.1"


def test_every_folder_is_absolute(site: AirflowSite, tmp_path: Path) -> None:
    found = _ours(site)
    for name in ("AIRFLOW_HOME", "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER"):
        assert Path(found[name]).is_absolute()
    assert found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{tmp_path}/airflow/airflow.db"


def test_tasks_reach_the_execution_api_on_the_same_port(site: AirflowSite) -> None:
    assert _ours(site)["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:4711/execution/"
    assert _ours(site)["AIRFLOW__API__PORT"] == "4711"


def test_the_callers_own_airflow_settings_do_not_reach_it(site: AirflowSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__SMTP__SMTP_HOST", "mail.example.org")
    assert _ours(site)["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert "AIRFLOW__SMTP__SMTP_HOST" not in site.environment()


def test_a_proxy_of_the_caller_is_kept_but_not_used_for_loopback(
    site: AirflowSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    assert site.environment()["NO_PROXY"] == "intranet,127.0.0.1,localhost"


def test_password_and_keys_are_made_once_and_closed_to_others(site: AirflowSite) -> None:
    first = site.environment()
    again = AirflowSite(site.home, site.dags, site.plugins, 4712, {})
    assert again.password() == site.password()
    assert len(site.password()) >= 12
    for name in ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"):
        assert again.environment()[name] == first[name]
        assert re.fullmatch(r"[0-9a-f]{64}", first[name])
    assert first["AIRFLOW__API__SECRET_KEY"] != first["AIRFLOW__API_AUTH__JWT_SECRET"]
    for file in (site.password_file, *(site.home / "keys").iterdir()):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
