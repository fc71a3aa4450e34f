"""Fixtures of all tests: a place of their own, settings for it, and an empty lake."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from etl.lake import Lake
from etl.settings import Settings

# Airflow reads it when it is first imported, which collecting its tests does: never the developer's own.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="groundlake-airflow-")
# Tests run beside each other: a thread of torch's for every core in each would take a third longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")
KEPT = ("AWS_CA_BUNDLE", "AIRFLOW_HOME")
ISOLATED = ("GROUNDLAKE_", "AWS_", "AIRFLOW_", "AIRFLOW__")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's shell, no project folder above, no proxy can reach into a test.

    The working directory is the test's own: a ``groundlake.yaml`` that ``make demo`` left in the clone would else
    name the developer's lake to every test that resolves one.
    """
    for name in os.environ:
        if name.startswith(ISOLATED) and name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a process that gives up soon and keeps its scratch inside the test's folder."""
    return Settings(scratch=tmp_path / "scratch", commit_deadline=5.0, slice_size=10)


@pytest.fixture(scope="session")
def _empty_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("empty") / "lake"
    Lake.create(str(place), Settings())
    return place


@pytest.fixture
def lake(tmp_path: Path, settings: Settings, _empty_lake: Path) -> Lake:
    """An empty lake in ``tmp_path / "lake"``; a copy, which takes a tenth of the time that creating one does."""
    shutil.copytree(_empty_lake, tmp_path / "lake")
    return Lake.open(str(tmp_path / "lake"), settings)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on loopback that honours conditional writes."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line per request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_uri(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of a fresh bucket; boto3 and delta-rs find it through the environment, as a user's would."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    urlopen(Request(f"{s3_server}/{bucket}", method="PUT")).close()
    return f"s3://{bucket}/some/prefix"
