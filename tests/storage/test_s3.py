"""S3: answers that get lost, servers that keep no promise, credentials that do not do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from etl.errors import ConfigurationError
from etl.storage import StorageError, open_store
from etl.storage.s3 import S3Store, _session


@pytest.fixture
def store(s3_uri: str) -> S3Store:
    return S3Store(s3_uri)


class _Server(BaseHTTPRequestHandler):
    """A server whose answer to any request is made by ``answer``; None hangs up without one."""

    def answer(self, body: bytes) -> tuple[int, bytes] | None:
        raise NotImplementedError

    def handle_any(self) -> None:
        answer = self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(answer[1])))
        self.end_headers()
        self.wfile.write(answer[1])

    do_GET = do_PUT = do_DELETE = handle_any  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the base class
        pass


class _Refusing(_Server):
    """Answers every request with the S3 error that the bucket is named after."""

    def answer(self, body: bytes) -> tuple[int, bytes]:
        code = urlsplit(self.path).path.split("/")[1]
        status = {"SlowDown": 503, "NoSuchBucket": 404, "ExpiredToken": 400}.get(code, 403)
        return status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


class _Forgetful(_Server):
    """Overlooks If-None-Match, as some small S3 servers do."""

    objects: ClassVar[dict[str, bytes]] = {}

    def answer(self, body: bytes) -> tuple[int, bytes]:
        if self.command == "PUT":
            self.objects[self.path] = body
        return 200, self.objects.get(self.path, b"") if self.command == "GET" else b""


class _Lossy(_Server):
    """Passes requests on to the real server, but loses the answer to the first PUT."""

    behind: ClassVar[str] = ""
    puts: ClassVar[list[str]] = []

    def answer(self, body: bytes) -> tuple[int, bytes] | None:
        connection = http.client.HTTPConnection(urlsplit(self.behind).netloc)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        if self.command == "PUT":
            self.puts.append(self.path)
            if len(self.puts) == 1:
                return None
        return found


@contextmanager
def _serving(handler: type[_Server], monkeypatch: pytest.MonkeyPatch, attempts: int) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", str(attempts))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("s3_uri")
def test_the_probe_refuses_a_server_without_conditional_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        _serving(_Forgetful, monkeypatch, 1),
        pytest.raises(ConfigurationError, match=r"does not honour conditional writes(.|\n)*If-None-Match"),
    ):
        S3Store("s3://bucket").probe()


@pytest.mark.usefixtures("s3_uri")
@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        ("AccessDenied", ConfigurationError, "may not do this"),
        ("InvalidAccessKeyId", ConfigurationError, "access key is unknown"),
        ("SignatureDoesNotMatch", ConfigurationError, "secret key is wrong"),
        ("NoSuchBucket", ConfigurationError, "bucket does not exist"),
        ("ExpiredToken", StorageError, "credentials have expired"),
        ("SlowDown", StorageError, "SlowDown"),
    ],
)
def test_a_refusal_is_told_in_words(
    code: str, error: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with _serving(_Refusing, monkeypatch, 1):
        store = S3Store(f"s3://{code}")
        for operation in (
            lambda: store.read("key"),
            lambda: store.put_if_absent("key", b""),
            lambda: store.publish_file(tmp_path / "file", "key"),
            lambda: list(store.list("")),
        ):
            with pytest.raises(error, match=text):
                operation()


def test_a_conditional_write_whose_answer_was_lost_counts_as_ours(
    s3_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Lossy, "behind", s3_server)
    monkeypatch.setattr(_Lossy, "puts", [])
    with _serving(_Lossy, monkeypatch, 3):
        store = S3Store(s3_uri)
        assert store.put_if_absent("key", b"mine") is True
        assert len(_Lossy.puts) == 2
        assert store.read("key") == b"mine"


def test_a_conditional_write_that_was_repeated_still_loses_to_a_twin(
    s3_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    S3Store(s3_uri).put("key", b"twin's")
    monkeypatch.setattr(_Lossy, "behind", s3_server)
    monkeypatch.setattr(_Lossy, "puts", [])
    with _serving(_Lossy, monkeypatch, 3):
        assert S3Store(s3_uri).put_if_absent("key", b"mine") is False
        assert len(_Lossy.puts) == 2


def test_without_credentials_it_says_which_variable_to_set(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _session.cache_clear()
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID"):
        open_store(s3_uri).read("key")


def test_an_endpoint_that_does_not_answer_is_retryable(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9"):
        open_store(s3_uri).read("key")


def test_delta_gets_credentials_endpoint_and_time_outs(
    store: S3Store, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = store.delta_options()
    assert options == {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "timeout": "30s",
        "connect_timeout": "5s",
        "max_retries": "5",
        "retry_timeout": "60s",
    }
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    amazon = S3Store("s3://bucket").delta_options() or {}
    assert "AWS_ENDPOINT_URL" not in amazon
    assert "AWS_ALLOW_HTTP" not in amazon
