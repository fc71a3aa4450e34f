"""A web server on loopback that publishes checkpoints as well, and as badly, as servers do.

with WeightsServer() as server:
    server.publish("/a.pth", content)
    server.behave("/a.pth", break_after(100), ignore_ranges())  # its first and its second answer
    ... server.url("/a.pth") ...
assert server.asked == [("/a.pth", None), ("/a.pth", "bytes=100-")]
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Behaviour = Callable[["_Handler", bytes], None]


def break_after(count: int) -> Behaviour:
    """Promise all, send ``count`` bytes of what was asked for, and hang up."""
    return lambda handler, content: handler.send_file(content, only=count)


def slowly(piece: int, seconds: float) -> Behaviour:
    """Send what was asked for in pieces, with a rest after each."""
    return lambda handler, content: handler.send_file(content, piece=piece, rest=seconds)


def ignore_ranges() -> Behaviour:
    """Send the whole file, whatever part was asked for."""
    return lambda handler, content: handler.send_file(content, ranges=False)


def ignore_if_range() -> Behaviour:
    """Send the part that was asked for, of a file that is another one by now."""
    return lambda handler, content: handler.send_file(content, if_range=False)


def status(code: int, **headers: str) -> Behaviour:
    """Answer with a status and nothing else."""
    return lambda handler, _: handler.send(code, b"", {name.replace("_", "-"): text for name, text in headers.items()})


def login_page() -> Behaviour:
    """Answer 200 with a page to log in on."""
    return lambda handler, _: handler.send(200, b"<html>log in</html>", {"Content-Type": "text/html; charset=utf-8"})


def redirect(where: str) -> Behaviour:
    """Send elsewhere."""
    return status(302, Location=where)


class WeightsServer:
    """Publishes files under paths; ``asked`` has (path, Range) of every request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.behaviours: dict[str, deque[Behaviour]] = defaultdict(deque)
        self.asked: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.tagged = True
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.desk = self  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def publish(self, path: str, content: bytes) -> None:
        """Put a file, or another version of it, under a path."""
        self.files[path] = content

    def behave(self, path: str, *behaviours: Behaviour) -> None:
        """How the next requests of a path are answered, one each; further ones are answered rightly."""
        self.behaviours[path].extend(behaviours)

    def url(self, path: str) -> str:
        """The url of a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def ranges(self, path: str) -> list[str | None]:
        """The ranges that were asked for of a path."""
        return [asked for place, asked in self.asked if place == path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever asked hung up, as tests make them do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        desk: WeightsServer = self.server.desk  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        desk.asked.append((path, self.headers.get("Range")))
        desk.headers.append(dict(self.headers))
        content = desk.files.get(path, b"")
        if desk.behaviours[path]:
            desk.behaviours[path].popleft()(self, content)
        elif path in desk.files:
            self.send_file(content)
        else:
            self.send(404, b"", {})

    def send(self, code: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(code)
        for name, text in {"Content-Length": str(len(body) if length is None else length), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def send_file(
        self,
        content: bytes,
        *,
        only: int | None = None,
        ranges: bool = True,
        if_range: bool = True,
        piece: int | None = None,
        rest: float = 0.0,
    ) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        if self.server.desk.tagged:  # type: ignore[attr-defined]
            headers["ETag"] = tag
        wanted = self.headers.get("Range") if ranges else None
        if wanted and if_range and self.headers.get("If-Range") != tag:
            wanted = None
        code, start = 200, 0
        if wanted:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            code = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        first = only if only is not None else piece
        self.send(code, body if first is None else body[:first], headers, len(body))
        with contextlib.suppress(OSError):  # whoever asked may be gone
            for place in range(piece, len(body), piece) if piece else ():
                time.sleep(rest)
                self.wfile.write(body[place : place + piece])
        if only is not None:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Nothing: what was asked is in ``asked``."""
