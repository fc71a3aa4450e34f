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
from fault_proxy import FaultProxy

from etl.errors import ConfigurationError
from etl.storage import LastingError, StorageError, open_store
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
        if self.command != "HEAD":
            self.wfile.write(answer[1])

    do_GET = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the base class
        pass


class _Refusing(_Server):
    """Answers every request with the S3 error that the bucket is named after."""

    def answer(self, body: bytes) -> tuple[int, bytes]:
        code = urlsplit(self.path).path.split("/")[1]
        status = {
            "SlowDown": 503,
            "InternalError": 500,
            "NoSuchBucket": 404,
            "ExpiredToken": 400,
        }.get(code, 403)
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
        ("ExpiredToken", LastingError, r"credentials have expired(.|\n)*log in again"),
        ("RequestTimeTooSkewed", LastingError, r"clock(.|\n)*correct this machine's clock"),
        ("QuotaExceeded", LastingError, r"store is full(.|\n)*free space"),
        ("SlowDown", StorageError, r"throttles(.|\n)*fewer processes"),
        ("InternalError", StorageError, r"Internal ?(Server )?Error(.|\n)*run the command again"),
    ],
)
def test_a_refusal_is_told_in_words(
    code: str, error: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with _serving(_Refusing, monkeypatch, 1):
        store = S3Store(f"s3://{code}/lake")
        for operation, told in {
            lambda: store.read("key"): "read 'key'",
            lambda: store.read_ranges("key", [(0, 1)]): "read 'key'",
            lambda: store.download("key", tmp_path / "copy"): "download 'key'",
            lambda: store.put("key", b""): "write 'key'",
            lambda: store.put_if_absent("key", b""): "write 'key'",
            lambda: store.publish_file(tmp_path / "file", "key"): "write 'key'",
            lambda: list(store.list("folder/")): "list 'folder/'",
            lambda: store.delete("key"): "delete 'key'",
            lambda: store.erase("key", [(0, 1)]): "erase 'key'",
            lambda: list(store.leftovers(0)): "list 'unfinished uploads'",
        }.items():
            with pytest.raises(error, match=f"cannot {told}(.|\n)*{text}") as caught:
                operation()
            assert type(caught.value) is error
    assert not (tmp_path / "copy").exists()


@pytest.mark.usefixtures("s3_uri")
@pytest.mark.parametrize(
    ("code", "error"),
    [("RequestTimeTooSkewed", LastingError), ("ExpiredToken", LastingError), ("SlowDown", StorageError)],
)
def test_looking_up_says_why_too_although_its_answer_has_no_body(
    code: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    with _serving(_Refusing, monkeypatch, 1), pytest.raises(error, match=r"look up 'key'.*(clock|expired|throttles)"):
        S3Store(f"s3://{code}").stat("key")


# What the place does to requests, and the operations that must come through as if nothing had happened.
PASSING = ("slow_down", "error", "reset", "cut", "lost", "false")


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_waited_for(s3_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
        store = S3Store(s3_uri)
        operations = {
            lambda: store.put("folder/key", b"0123456789"): None,
            lambda: store.put_if_absent("folder/other", b"x"): True,
            lambda: store.read("folder/key"): b"0123456789",
            lambda: store.read_ranges("folder/key", [(0, 1), (5, 2)]): [b"0", b"56"],
            lambda: [found.key for found in store.list("folder/")]: ["folder/key", "folder/other"],
            lambda: store.erase("folder/key", [(0, 5)]): 5,
            lambda: store.delete("folder/other"): None,
        }
        for operation, expected in operations.items():
            proxy.rule(fault, times=2)
            assert operation() == expected
            proxy.clear()
        assert proxy.counts[fault] >= 2 * len(operations) - 1
        assert store.read("folder/key") == bytes(5) + b"56789"


def test_a_listing_is_fetched_page_by_page(s3_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = S3Store(s3_uri)
    keys = [f"{n:03d}" for n in range(7)]
    for key in keys:
        writer.put(key, b"")
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
        found = S3Store(s3_uri).list("")
        assert next(found).key == "000"
        assert proxy.counts["passed"] == 1, "later pages are not asked for before they are needed"
        proxy.rule("reset")
        assert [one.key for one in found] == keys[1:]
        assert proxy.counts == {"passed": 3, "reset": 1}


def test_a_server_that_is_silent_for_too_long_is_a_time_out(
    s3_uri: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.storage.s3.READ_TIMEOUT", 0.2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with FaultProxy(s3_server, delay=0.5) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = S3Store(s3_uri)
        proxy.rule("late", times=9)
        with pytest.raises(StorageError, match=r"cannot write 'key': Read timeout(.|\n)*check the network"):
            store.put("key", b"x")


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
