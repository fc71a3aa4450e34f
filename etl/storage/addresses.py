"""What is not the public internet: enforced on the address a socket really connects to.

A check of a url's host alone is defeated by redirects, by DNS answers that change between check and use, and by other
spellings of an address; an audit hook on ``socket.connect`` sees the address itself, in every thread and library.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import sys
import threading
from collections.abc import Iterator

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_guarded = threading.local()


class BlockedError(OSError):
    """A download tried to leave the public internet; an OSError, so that clients try the host's next address."""


def is_public(host: str) -> bool:
    """Whether ``host`` is a numeric address of the public internet; names are not.

    >>> is_public("93.184.216.34"), is_public("169.254.169.254"), is_public("::ffff:127.0.0.1"), is_public("localhost")
    (True, False, False, False)
    """
    try:
        address: Address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return all(one.is_global and not one.is_multicast for one in (address, *_embedded(address)))


def _embedded(address: Address) -> list[Address]:
    """IPv4 addresses that a gateway or the kernel would take out of an IPv6 address; a mapped one replaces it."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def check_connection(event: str, arguments: tuple[object, ...]) -> None:
    """As an audit hook: raise BlockedError when a socket connects to what is not a public address."""
    if event != "socket.connect":
        return
    address = arguments[1]
    # A tuple is IPv4 or IPv6; a path is a Unix socket, which no url can name.
    if isinstance(address, tuple) and not is_public(str(address[0])):
        raise BlockedError(f"{address[0]} is not an address of the public internet")


@contextlib.contextmanager
def public_only() -> Iterator[None]:
    """Inside, connections of this thread to a private address raise BlockedError; other threads are left alone."""
    _install()
    before = getattr(_guarded, "on", False)
    _guarded.on = True
    try:
        yield
    finally:
        _guarded.on = before


@functools.cache
def _install() -> None:
    sys.addaudithook(_hook)  # cannot be removed, so one serves the whole process


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if getattr(_guarded, "on", False):
        check_connection(event, arguments)
