"""An HTTP proxy in front of an S3 server that loses, delays and refuses requests, by rule or by seeded chance.

A test puts it between the code and the server of the ``s3_server`` fixture, by the variable a user would set::

    with FaultProxy(s3_server, seed=7, rates={"slow_down": 0.05, "lost": 0.02}) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.rule("lost", method="PUT", path="_delta_log", times=1)  # the very next PUT of a log entry
        ...
        with proxy.pause():  # nothing goes wrong in here
            ...
    assert proxy.counts["lost"] == 1

Faults (the keys of ``rates`` and the first argument of ``rule``):

========== ========== =================================================================================
name       server saw what the client gets
========== ========== =================================================================================
error      nothing    500 InternalError
slow_down  nothing    503 SlowDown
reset      nothing    the connection is reset
slow       the request the right answer, ``delay`` seconds late: the server got the request late
late       the request the right answer, ``delay`` seconds late: the server got the request at once
lost       the request nothing: the connection is reset in place of the answer
cut        the request half of the answer's body (of an empty one: no answer), then a reset
false      the request 500 InternalError in place of the answer
<int:XML>  nothing    any S3 error of your choice by ``rule("403 AccessDenied")``: status and code
========== ========== =================================================================================

With ``rates`` a request meets at most one fault. Chance depends on the seed, the method, the path and how often that
request was seen, not on which thread came first, so a failing run can be repeated as far as its keys are the same.
The proxy is for signed requests too: clients sign its own address, and the server behind must not check signatures.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

FAULTS = ("error", "slow_down", "reset", "slow", "late", "lost", "cut", "false")
_REFUSALS = {"error": "500 InternalError", "slow_down": "503 SlowDown", "false": "500 InternalError"}
_UNSEEN = ("error", "slow_down", "reset")
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection", "te", "upgrade"}


@dataclass
class _Rule:
    """A fault that the next ``times`` requests meet that fit, after ``skip`` others that fit were let through."""

    fault: str
    method: str | None
    path: str
    times: float
    skip: int

    def takes(self, method: str, path: str) -> bool:
        if self.times <= 0 or self.method not in (None, method) or self.path not in path:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class FaultProxy:
    """A proxy on a port of its own while the ``with`` block lasts.

    Args:
        target: The address of the real server, ``http://host:port``.
        seed: Makes chance repeatable.
        rates: Fault -> chance (0..1) that a request meets it; their sum is at most 1.
        delay: Seconds by which slow and late answers come late.

    Attributes:
        url: The proxy's own address.
        counts: How often each fault happened; ``passed`` counts the requests that met none.
    """

    def __init__(
        self, target: str, *, seed: int = 0, rates: Mapping[str, float] | None = None, delay: float = 0.2
    ) -> None:
        self._netloc, self._seed, self._rates, self.delay = urlsplit(target).netloc, seed, dict(rates or {}), delay
        unknown = set(self._rates) - set(FAULTS)
        assert not unknown, f"no such fault: {unknown}"
        assert sum(self._rates.values()) <= 1, "the rates add up to more than every request"
        self.counts: Counter[str] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._rules: list[_Rule] = []
        self._paused = False
        self._lock = threading.Lock()

    def __enter__(self) -> FaultProxy:
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def rule(self, fault: str, *, method: str | None = None, path: str = "", times: float = 1, skip: int = 0) -> None:
        """Have requests meet a fault; rules come before chance, and the first that fits counts.

        Args:
            fault: One of ``FAULTS``, or a status and an S3 error code such as ``"403 AccessDenied"``.
            method: GET, PUT, …; any by default.
            path: A part of the decoded path and query.
            times: So many requests; ``math.inf`` for all.
            skip: So many that fit are let through first.
        """
        assert fault in FAULTS or fault.split()[0].isdigit(), f"no such fault: {fault}"
        with self._lock:
            self._rules.append(_Rule(fault, method, path, times, skip))

    def clear(self) -> None:
        """Drop all rules; chance stays."""
        with self._lock:
            self._rules.clear()

    def pause(self) -> contextlib.ExitStack:
        """Let everything through until ``resume``, or until the end of ``with proxy.pause():``."""
        self._paused = True
        stack = contextlib.ExitStack()
        stack.callback(self.resume)
        return stack

    def resume(self) -> None:
        """Let faults happen again."""
        self._paused = False

    def draw(self, method: str, target: str) -> str:
        """The fault that this request meets, or "passed"."""
        path = unquote(target)
        with self._lock:
            fault = "passed" if self._paused else self._rule_for(method, path) or self._chance(method, path)
            self.counts[fault] += 1
        return fault

    def _rule_for(self, method: str, path: str) -> str | None:
        return next((rule.fault for rule in self._rules if rule.takes(method, path)), None)

    def _chance(self, method: str, path: str) -> str:
        self._seen[method, path] += 1
        drawn = random.Random(f"{self._seed} {method} {path} {self._seen[method, path]}").random()
        for fault, rate in self._rates.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return "passed"

    def forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        """The real server's answer."""
        connection = http.client.HTTPConnection(self._netloc, timeout=60)
        try:
            sent = {name: value for name, value in headers.items() if name.lower() not in _HOP}
            sent["Content-Length"] = str(len(body))
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            return _Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; that is what it is made to do here."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self._body()
        fault = self.proxy.draw(self.command, self.path)
        if fault == "reset":
            return self._reset()
        if fault in _UNSEEN or fault[0].isdigit():
            return self._refuse(_REFUSALS.get(fault, fault))
        if fault == "slow":
            time.sleep(self.proxy.delay)
        answer = self.proxy.forward(self.command, self.path, dict(self.headers), body)
        if fault == "late":
            time.sleep(self.proxy.delay)
        if fault == "lost":
            return self._reset()
        if fault == "false":
            return self._refuse(_REFUSALS[fault])
        return self._answer(answer, cut=fault == "cut")

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = handle_any  # noqa: N815 - names of the base class

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return body

    def _answer(self, answer: _Answer, *, cut: bool) -> None:
        if cut and not answer.body:
            return self._reset()
        self.send_response_only(answer.status)
        bare = self.command == "HEAD" or answer.status in (204, 304)  # these name a length and have no body
        for name, value in answer.headers:
            if name.lower() not in _HOP and (bare or name.lower() != "content-length"):
                self.send_header(name, value)
        if not bare:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if cut:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            return self._reset()
        if not bare:
            self.wfile.write(answer.body)
        return None

    def _refuse(self, refusal: str) -> None:
        status, _, code = refusal.partition(" ")
        text = f"<Error><Code>{code}</Code><Message>by the fault proxy</Message></Error>"
        body = b"" if self.command == "HEAD" else text.encode()
        self._answer(_Answer(int(status), [("Content-Type", "application/xml")], body), cut=False)

    def _reset(self) -> None:
        """Close with RST, not FIN, so that the other side sees an error, not an end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The handler's file objects hold the socket open until it ends; shutting down would send a FIN first.
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def finish(self) -> None:
        if not self.wfile.closed:
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the base class
        """Say nothing: a line per request would hide what failed."""
