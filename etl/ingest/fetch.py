"""The opener img2dataset's ``urlopen`` calls go through: http and https only, bounded in time and bytes, and noted.

img2dataset reads answers of any length, with a time-out per packet only, and tells why a request failed in text; here
each request is bounded and its outcome noted as JSON, one line per request.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit
from urllib.response import addinfourl

from etl.ingest.failures import AnswerTooLargeError, classify
from etl.storage.addresses import BlockedError

_KEPT = "%/:=&?~#+!$,;'@()*[]"  # characters of a url that quoting leaves alone
_LOCAL = "localhost,127.0.0.1,::1"


class _BoundedReader(io.RawIOBase):
    """Raw bytes of a socket until a deadline or a number of bytes is passed."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, max_bytes: int) -> None:
        self._raw, self._sock, self._left = raw, sock, max_bytes
        self._deadline = time.monotonic() + (sock.gettimeout() or 60.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(remaining)
        count: int = self._raw.readinto(buffer) or 0
        self._left -= count
        if self._left < 0:
            raise AnswerTooLargeError("the answer is longer than max_bytes allows")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise BlockedError(f"redirect to {newurl!r}: only http and https are allowed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Opener(urllib.request.OpenerDirector):
    """What ``urllib.request.install_opener`` gets in a worker.

    Args:
        max_bytes: Length above which an answer is refused.
        proxies: Whether the environment's proxies are used; a proxy would connect to addresses we cannot see.
        note: Called with one JSON mapping per finished request.
    """

    def __init__(self, max_bytes: int, *, proxies: bool, note: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._note = note
        self._inner = urllib.request.OpenerDirector()  # without the handlers of file:, ftp: and data:
        for handler in (
            urllib.request.ProxyHandler(None if proxies else {}),
            *_bounded_handlers(max_bytes + 65_536),  # headers count too
            _Redirects(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
        ):
            self._inner.add_handler(handler)

    def open(self, fullurl: Any, data: Any = None, timeout: float | None = 10) -> addinfourl:
        """Fetch a request whole; raises what urllib raises, after noting it."""
        given = urllib.request.Request(fullurl) if isinstance(fullurl, str) else fullurl  # noqa: S310
        url = given.full_url
        request = urllib.request.Request(quote(url, safe=_KEPT), headers=dict(given.header_items()))  # noqa: S310
        try:
            with self._inner.open(request, data, timeout) as answer:
                body = answer.read()
                found = addinfourl(io.BytesIO(body), answer.headers, answer.url, answer.status)
        except MemoryError as error:
            _give_up(error)
        except Exception as error:
            error_class, status = classify(error)
            self._note({"url": url, "error_class": error_class, "http_status": status, "bytes": None})
            raise
        self._note({"url": url, "error_class": None, "http_status": found.status, "bytes": len(body)})
        return found


def _bounded_handlers(max_bytes: int) -> tuple[urllib.request.HTTPHandler, urllib.request.HTTPSHandler]:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
            super().__init__(sock, *arguments, **named)
            self.fp = io.BufferedReader(_BoundedReader(self.fp.detach(), sock, max_bytes))

    class Plain(http.client.HTTPConnection):
        response_class = Response

    class Secure(http.client.HTTPSConnection):
        response_class = Response

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req)

    return PlainHandler(), SecureHandler()


def _give_up(error: BaseException) -> NoReturn:
    """End the worker at once: img2dataset would book a failure of this place as one of the url, or hang."""
    os.write(sys.stderr.fileno(), f"\nthe worker gives up: {type(error).__name__}: {error}\n".encode())
    os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def install(notes: Path, max_bytes: int, *, proxies: bool) -> None:
    """Make every ``urlopen`` of this process go through an Opener that appends its notes to a file."""
    descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(content: dict[str, Any]) -> None:
        line = json.dumps(content).encode() + b"\n"
        try:
            written = os.write(descriptor, line)  # one write: lines of threads do not mix
        except OSError as error:
            _give_up(error)
        if written != len(line):
            _give_up(OSError(f"{notes}: {written} of {len(line)} bytes were written: the disk is full"))

    os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), _LOCAL)))
    urllib.request.install_opener(Opener(max_bytes, proxies=proxies, note=note))
