"""Why a url failed, as short names: the ``error_class`` of ``downloads``.

Network failures are named where the exception is still typed (inside the worker); img2dataset passes on text only.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from urllib.error import HTTPError, URLError

from etl.storage.addresses import BlockedError

BLOCKED = "blocked"  # a private address or a scheme other than http and https
ROBOTS = "robots"  # an X-Robots-Tag that forbids use, such as noai
BAD_URL, TAKEN_DOWN, UNKNOWN = "bad_url", "taken_down", "unknown"
DECODE, EMPTY, TOO_SMALL, TOO_LARGE = "decode", "empty", "too_small", "too_large"


class AnswerTooLargeError(Exception):
    """An answer is longer than a picture may be."""


# The first that fits counts: SSLError, TimeoutError and ConnectionError are OSErrors, most of HTTPException is not.
_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (BlockedError, BLOCKED),
    (AnswerTooLargeError, TOO_LARGE),
    (socket.gaierror, "dns"),
    (TimeoutError, "timeout"),
    (ssl.SSLError, "tls"),
    (ConnectionError, "connection"),
    (http.client.IncompleteRead, "connection"),
    (http.client.InvalidURL, BAD_URL),
    (http.client.HTTPException, "protocol"),
    (OSError, "connection"),
    (ValueError, BAD_URL),
)


def classify(error: BaseException) -> tuple[str, int | None]:
    """The error class of an exception of a request, and the HTTP status where there was an answer.

    >>> classify(URLError(socket.gaierror(-2, "Name or service not known")))
    ('dns', None)
    """
    if isinstance(error, HTTPError):
        # urllib words its refusal of a redirect to file:// this way and gives it the redirect's status.
        refused = 300 <= error.code < 400 and "is not allowed" in str(error)
        return (BLOCKED if refused else f"http_{error.code}"), error.code
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return classify(error.reason)
    if isinstance(error, URLError):  # "unknown url type", "no host given"
        return BAD_URL, None
    for kind, name in _KINDS:
        if isinstance(error, kind):
            return name, None
    return UNKNOWN, None


def classify_message(message: str) -> str:
    """The error class of a message img2dataset made itself, before or after the request.

    >>> classify_message("Use of image disallowed by X-Robots-Tag directive")
    'robots'
    """
    if "X-Robots-Tag" in message:
        return ROBOTS
    if "unknown url type" in message:
        return BAD_URL
    return UNKNOWN


def is_retryable(error_class: str) -> bool:
    """Whether another night may help: the network or the server was at fault, not the url or the picture.

    >>> is_retryable("http_503"), is_retryable("http_404")
    (True, False)
    """
    return error_class in ("timeout", "dns", "connection", "http_408", "http_429") or error_class.startswith("http_5")
