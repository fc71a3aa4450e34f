"""The demo's web server: files, and the failures of ``answers.json``, on loopback only."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from etl.demo.server import make_server, serve
from etl.errors import ConfigurationError


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    site = tmp_path / "site"
    (site / "folder").mkdir(parents=True)
    (site / "folder" / "a b.jpg").write_bytes(b"picture")
    (tmp_path / "secret.txt").write_text("outside")
    (site / "answers.json").write_text(
        '{"/failing": {"status": 500}, "/moved": {"redirect": "/folder/a%20b.jpg"},'
        ' "/folder/a b.jpg": {"delay": 0.2, "headers": {"X-Robots-Tag": "noai"}}}'
    )
    with serve(site) as url:
        yield url


def test_a_file_is_served_with_its_kind_and_headers(base: str) -> None:
    start = time.monotonic()
    answer = httpx.get(f"{base}/folder/a%20b.jpg")
    assert (answer.content, answer.headers["content-type"]) == (b"picture", "image/jpeg")
    assert answer.headers["x-robots-tag"] == "noai"
    assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nothing", 404), ("/folder", 404), ("/failing", 500), ("/moved", 302), ("/..%2fsecret.txt", 404)],
)
def test_statuses_are_those_of_the_site(base: str, path: str, status: int) -> None:
    assert httpx.get(f"{base}{path}").status_code == status


def test_a_redirect_leads_to_the_file(base: str) -> None:
    assert httpx.get(f"{base}/moved", follow_redirects=True).content == b"picture"


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


def test_a_port_in_use_is_a_clear_error(base: str, tmp_path: Path) -> None:
    port = int(base.rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match=f"port {port} of 127.0.0.1 cannot be used"):
        make_server(tmp_path, port)


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no folder"):
        make_server(tmp_path / "nothing")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_says_its_address_and_stops_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    (tmp_path / "x.txt").write_text("x")
    command = [sys.executable, "-m", "etl.demo.server", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    base = process.stdout.readline().strip()
    assert httpx.get(f"{base}/x.txt").text == "x"
    process.send_signal(stop)
    assert process.wait(10) == 0
    process.stdout.close()
