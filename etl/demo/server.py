"""A loopback web server over a folder of pictures, with the failures a crawl meets.

Run it as ``python -m etl.demo.server FOLDER --port 8800``; it ends with its parent.
``answers.json`` in the folder says per path what differs from serving the file:
``{"/slow.jpg": {"delay": 0.5}, "/gone.jpg": {"status": 500}, "/moved.jpg": {"redirect": "/there.jpg"},
"/no.jpg": {"headers": {"X-Robots-Tag": "noai"}}}``.
"""

from __future__ import annotations

import argparse
import json
import mimetypes
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

from etl.errors import ConfigurationError
from etl.ingest.parent import exit_with_parent

ANSWERS = "answers.json"
HOST = "127.0.0.1"


class _Handler(BaseHTTPRequestHandler):
    """Serves one request; ``folder`` and ``answers`` are bound by the server."""

    def __init__(self, *arguments: Any, folder: Path, answers: dict[str, dict[str, Any]]) -> None:
        self._folder, self._answers = folder, answers
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer as ``answers.json`` says, else with the file, else with 404."""
        path = unquote(urlsplit(self.path).path)
        answer = self._answers.get(path, {})
        time.sleep(float(answer.get("delay", 0)))
        if "redirect" in answer:
            self._send(302, b"", {"Location": answer["redirect"]})
        elif "status" in answer:
            self._send(int(answer["status"]), b"no picture here", {})
        else:
            self._file(path, answer.get("headers", {}))

    def _file(self, path: str, headers: dict[str, str]) -> None:
        file = (self._folder / path.lstrip("/")).resolve()
        if not file.is_relative_to(self._folder) or not file.is_file():
            self._send(404, b"not found", {})
            return
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        self._send(200, file.read_bytes(), {"Content-Type": kind, **headers})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class' name
        """Say nothing: a picture server logs a line per picture otherwise."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a shard opens many connections at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error of ours; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def make_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 that has bound its port and serves once ``serve_forever`` is called.

    Args:
        folder: What to serve.
        port: The port; 0 takes a free one.

    Raises:
        ConfigurationError: The folder does not exist, or the port is in use.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder} to serve")
    file = folder / ANSWERS
    answers = json.loads(file.read_text()) if file.is_file() else {}
    try:
        return _Server((HOST, port), partial(_Handler, folder=folder, answers=answers))
    except OSError as error:
        raise ConfigurationError(
            f"port {port} of {HOST} cannot be used: {error.strerror}",
            remedy=f"stop what listens there ('ss -ltnp | grep {port}'), or choose another port",
        ) from error


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve a folder from a thread of this process; yields the base url, without a slash at its end."""
    server = make_server(folder, port)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serve until SIGTERM, Ctrl-C or the end of the parent."""
    parser = argparse.ArgumentParser(description="Serve a folder of pictures on the loopback interface.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    exit_with_parent()
    try:
        server = make_server(arguments.folder, arguments.port)
    except ConfigurationError as error:
        sys.exit(str(error))

    def stop(_: int, __: FrameType | None) -> None:
        threading.Thread(target=server.shutdown).start()  # from this thread it would wait for itself

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sys.stdout.write(f"http://{HOST}:{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
