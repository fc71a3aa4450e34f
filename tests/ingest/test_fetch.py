"""One request: bounded in time and bytes, and noted with a class made from the typed error."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl.demo.server import serve
from etl.ingest.fetch import Opener


def fetch(url: str, *, timeout: float = 2, max_bytes: int = 1000) -> tuple[bytes | None, dict[str, Any]]:
    notes: list[dict[str, Any]] = []
    opener = Opener(max_bytes, proxies=False, note=notes.append)
    try:
        body = opener.open(urllib.request.Request(url), None, timeout).read()
    except Exception:
        body = None
    (note,) = notes
    return body, note


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request and then does ``answer`` with the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve_one() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            answer(connection)

    thread = threading.Thread(target=serve_one, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    listener.close()
    thread.join(5)


def test_an_answer_comes_whole_with_its_status(tmp_path: Path) -> None:
    (tmp_path / "ü a.txt").write_bytes(b"x" * 1000)
    with serve(tmp_path) as base:
        body, note = fetch(f"{base}/ü a.txt")
    assert body == b"x" * 1000
    assert note == {"url": f"{base}/ü a.txt", "error_class": None, "http_status": 200, "bytes": 1000}


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
def test_a_refusal_is_its_status(tmp_path: Path, status: int) -> None:
    (tmp_path / "answers.json").write_text(f'{{"/x": {{"status": {status}}}}}')
    with serve(tmp_path) as base:
        _, note = fetch(f"{base}/x")
    assert (note["error_class"], note["http_status"]) == (f"http_{status}", status)


def test_a_redirect_loop_is_its_status(tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_text('{"/x": {"redirect": "/x"}}')
    with serve(tmp_path) as base:
        assert fetch(f"{base}/x")[1]["error_class"] == "http_302"


def test_an_unknown_host_is_dns() -> None:
    assert fetch("http://no-such-host.invalid/x")[1]["error_class"] == "dns"


def test_a_closed_port_is_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert fetch(f"http://127.0.0.1:{port}/x")[1]["error_class"] == "connection"


def test_plain_text_on_a_tls_port_is_tls(tmp_path: Path) -> None:
    with serve(tmp_path) as base:
        assert fetch(f"{base.replace('http', 'https')}/x")[1]["error_class"] == "tls"


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "connection"),
        (b"", "connection"),
        (b"hello\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000, "too_large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, "too_large"),
    ],
    ids=["cut", "hung up", "not http", "too long", "too long, without a length"],
)
def test_a_broken_answer_has_its_class(answer: bytes, error_class: str) -> None:
    def send(connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):  # the reader may have had enough
            connection.sendall(answer)

    with raw_server(send) as url:
        assert fetch(url)[1]["error_class"] == error_class


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"], ids=["headers", "body"])
def test_an_answer_that_trickles_times_out_as_a_whole(head: bytes) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(30):
            try:
                connection.sendall(b"H")
            except OSError:
                return
            time.sleep(0.1)

    start = time.monotonic()
    with raw_server(trickle) as url:
        assert fetch(url, timeout=0.5)[1]["error_class"] == "timeout"
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"])
def test_other_schemes_are_not_opened(url: str) -> None:
    body, note = fetch(url)
    assert (body, note["error_class"]) == (None, "bad_url")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_worker_that_cannot_note_an_outcome_ends_rather_than_blame_the_url(tmp_path: Path) -> None:
    script = """
import urllib.request
from pathlib import Path
from etl.ingest.fetch import install
install(Path("/dev/full"), 1000, proxies=False)
try:
    urllib.request.urlopen("http://127.0.0.1:1/x")
except OSError:
    print("went on")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    assert "the worker gives up: OSError: [Errno 28] No space left on device" in done.stderr
