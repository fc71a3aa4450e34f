"""The worker process: what it may reach, how it dies, and what of its output is believed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.demo.server import make_server
from etl.errors import ConfigurationError, RetryableError
from etl.ingest import download as module
from etl.ingest.download import download
from etl.settings.catalog import Download


def silent(done: int, total: int) -> None:
    pass


@pytest.mark.slow
def test_img2datasets_own_processes_reach_no_private_address(tmp_path: Path) -> None:
    """The hook must be in the children that img2dataset spawns: that is where it downloads."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "x.jpg").write_bytes(b"secret")
    server = make_server(site)  # it listens and never answers: a connection that got through would time out
    port = server.server_address[1]
    hosts = ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433")
    _, fetched = download([f"http://{host}:{port}/x.jpg" for host in hosts], Download(timeout=1), tmp_path, silent)
    server.server_close()
    assert [one.error_class for one in fetched] == ["blocked"] * len(hosts)
    assert all("not an address of the public internet" in str(one.error) for one in fetched)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_downloads(tmp_path: Path, stop: signal.Signals) -> None:
    site = tmp_path / "site"
    site.mkdir()
    server = make_server(site)  # never answers
    script = f"""
import sys
from pathlib import Path
from etl.cli.common import errors_end_the_process
from etl.ingest.download import download
from etl.settings.catalog import Download
with errors_end_the_process():
    limits = Download(timeout=60, allow_private_addresses=True)
    download(["http://127.0.0.1:{server.server_address[1]}/x"], limits, Path({str(tmp_path)!r}), lambda *_: None)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    job = str(tmp_path / "job.json")
    wait_for(lambda: len(of_job(job)) >= 3, 90)  # the worker, its pool and its logger
    process.send_signal(stop)
    assert process.wait(30) == (75 if stop == signal.SIGTERM else -signal.SIGKILL)
    wait_for(lambda: not of_job(job), 30)
    server.server_close()


def of_job(job: str) -> list[psutil.Process]:
    """The worker of a job and its spawned children; children carry no arguments, but their parent does."""
    found = [one for one in psutil.process_iter(["cmdline", "status"]) if job in (one.info["cmdline"] or [])]
    groups = {one.pid for one in found} | KNOWN
    KNOWN.update(groups)
    return [one for one in psutil.process_iter(["status"]) if alive(one) and group_of(one) in groups]


KNOWN: set[int] = set()


def alive(process: psutil.Process) -> bool:
    return process.info["status"] != psutil.STATUS_ZOMBIE


def group_of(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return -1


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_without_img2dataset_the_remedy_is_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"groundlake\[ingest\]"):
        download(["http://a/1"], Download(), tmp_path, silent)


URLS = ["http://a/1", "http://a/2", "http://a/3"]


def leave(folder: Path, keys: list[int], *, without: str = "", cut: bool = False) -> Callable[..., int]:
    """A worker that ends with 0 and leaves the rows of ``keys``, as img2dataset does on a full disk."""

    def run(_: object, __: object, log: deque[bytes], ___: object) -> int:
        output = folder / "output"
        output.mkdir()
        columns = {"key": [f"{key:06d}" for key in keys], "url": [URLS[key] for key in keys]}
        columns |= {"status": ["success"] * len(keys), "error_message": [None] * len(keys), "sha256": ["0"] * len(keys)}
        pq.write_table(pa.table(columns), output / "00000.parquet")
        if cut:
            os.truncate(output / "00000.parquet", 100)
        (output / "00000_stats.json").write_text(json.dumps({}))
        (output / "00000.tar").write_bytes(b"")
        if without:
            (output / without).unlink()
        log.append(b"OSError: [Errno 28] No space left on device")
        return 0

    return run


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ({"keys": [0, 2]}, "lost 1 of 3 urls, such as http://a/2"),
        ({"keys": [0, 1, 2], "without": "00000_stats.json"}, "wrote no 00000_stats.json"),
        ({"keys": [0, 1, 2], "without": "00000.tar"}, "wrote no 00000.tar"),
        ({"keys": [0, 1, 2], "without": "00000.parquet"}, "wrote no 00000.parquet"),
        ({"keys": [0, 1, 2], "cut": True}, "metadata cannot be read"),
    ],
    ids=["a lost row", "no stats", "no tar", "no metadata", "cut metadata"],
)
def test_what_img2dataset_did_not_finish_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: dict[str, object], says: str
) -> None:
    monkeypatch.setattr(module, "_run", leave(tmp_path, **left))  # type: ignore[arg-type]
    with pytest.raises(RetryableError, match=says) as caught:
        download(URLS, Download(), tmp_path, silent)
    assert "No space left on device" in str(caught.value)


def test_a_crash_is_retryable_and_shows_the_end_of_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.json").mkdir()  # the worker cannot read its job
    monkeypatch.setattr("etl.ingest.worker.Job.write", lambda self, path: None)
    with pytest.raises(RetryableError, match=r"exit code 1(.|\n)*IsADirectoryError"):
        download(URLS, Download(), tmp_path, silent)


def test_a_worker_that_does_nothing_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_patience", lambda job: 0.01)  # less than it needs to start
    with pytest.raises(RetryableError, match="did nothing for"):
        download(URLS, Download(), tmp_path, silent)
