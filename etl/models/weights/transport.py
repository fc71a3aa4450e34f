"""One answer of a web server: redirects followed, proxies honoured, private addresses refused."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

import httpx

from etl.models.weights.errors import InterruptedDownloadError, RefusedDownloadError
from etl.storage.addresses import BlockedError, is_public, public_only

MAX_REDIRECTS = 10
TIMEOUT = httpx.Timeout(60.0, connect=20.0)
# An address in numbers, in any spelling that a resolver takes for one: 127.0.0.1, 2130706433, 0x7f.1, ::1.
_NUMERIC = re.compile(r":|(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", re.IGNORECASE)

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole urls, and redirects carry signatures in them


@dataclass(frozen=True)
class Rules:
    """Where a download may go.

    Attributes:
        allow_http: Over plain http too.
        allow_private: To loopback and private networks too.
    """

    allow_http: bool = False
    allow_private: bool = False


def shown(url: httpx.URL | str) -> str:
    """A url for messages and logs: without the user, password and query, where tokens are.

    >>> shown("https://me:secret@host/a/file.pth?token=1")
    'https://host/a/file.pth'
    """
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))


@contextmanager
def answer(url: str, headers: Mapping[str, str], rules: Rules) -> Iterator[httpx.Response]:
    """The answer to a GET, after redirects; its body is still to be read, with ``iter_raw``.

    Raises:
        RefusedDownloadError: The url or a redirect leads where ``rules`` forbid, or in circles; or a proxy cannot
            be used.
        InterruptedDownloadError: The server could not be reached, or broke off.
    """
    here = httpx.URL(url)
    with ExitStack() as stack, _broken_off(url):
        for _ in range(MAX_REDIRECTS):
            response = stack.enter_context(_asked(here, headers, rules))
            if not response.has_redirect_location:
                yield response
                return
            here = here.join(response.headers["location"])
    raise RefusedDownloadError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects", remedy=_OTHERWISE)


_OTHERWISE = "correct its url in the catalog, or fetch the file yourself and run 'groundlake models add'"


@contextmanager
def _asked(url: httpx.URL, headers: Mapping[str, str], rules: Rules) -> Iterator[httpx.Response]:
    if url.scheme != "https" and not (url.scheme == "http" and rules.allow_http):
        raise RefusedDownloadError(
            f"{shown(url)}: only https is allowed", remedy="give an https url, or set 'allow_http' in the catalog"
        )
    proxy = _proxy(url)
    if proxy and not rules.allow_private and _names_private(url.host):
        raise _private(url)
    try:
        client = httpx.Client(proxy=proxy, trust_env=False, verify=_tls(), timeout=TIMEOUT)
    except (ImportError, ValueError) as error:  # a SOCKS proxy without its package; a proxy that is no url
        raise RefusedDownloadError(
            f"the proxy of the environment cannot be used: {error}", remedy="correct HTTPS_PROXY or ALL_PROXY"
        ) from error
    with client:
        # A proxy may well have a private address, and connects to others where we cannot see it.
        with contextlib.nullcontext() if rules.allow_private or proxy else public_only():
            response = _connected(client, url, headers)
        with contextlib.closing(response):
            yield response


def _connected(client: httpx.Client, url: httpx.URL, headers: Mapping[str, str]) -> httpx.Response:
    try:
        return client.send(client.build_request("GET", url, headers=headers), stream=True, follow_redirects=False)
    except httpx.ConnectError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, BlockedError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise _private(url) from error
        raise


@functools.cache  # reading the certificates takes longer than a short download
def _tls() -> ssl.SSLContext:
    """The certificates of SSL_CERT_FILE or SSL_CERT_DIR, else those that come with httpx."""
    return httpx.create_ssl_context(trust_env=True)


def _private(url: httpx.URL) -> RefusedDownloadError:
    return RefusedDownloadError(
        f"{shown(url)} leads to an address that is not on the public internet",
        remedy="if it is a mirror of your own, set 'allow_private_addresses' in the catalog's entry",
    )


def _names_private(host: str) -> bool:
    host = host.lower().rstrip(".")
    return host == "localhost" or host.endswith(".localhost") or (bool(_NUMERIC.search(host)) and not is_public(host))


def _proxy(url: httpx.URL) -> str | None:
    """The environment's proxy for a url, as every other program finds it."""
    if proxy_bypass(url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


@contextmanager
def _broken_off(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.TransportError, httpx.StreamError) as error:
        what = str(error) or type(error).__name__
        raise InterruptedDownloadError(f"{shown(url)}: {what}") from error
    except httpx.InvalidURL as error:
        raise RefusedDownloadError(f"{shown(url)} redirects to what is no url: {error}", remedy=_OTHERWISE) from error
