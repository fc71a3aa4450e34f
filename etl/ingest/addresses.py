"""Downloads stay on the public internet: enforced on the address a socket really connects to.

A url list is input of strangers. A check of the url's host alone is defeated by redirects, by DNS answers that change
between check and use, and by other spellings of an address; an audit hook on ``socket.connect`` sees the address
itself, in every thread and library.
"""

from __future__ import annotations

import ipaddress
import sys

from etl.ingest.failures import BlockedError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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


def forbid_private_addresses() -> None:
    """Make every further connection of this process to a private address raise BlockedError. It cannot be undone."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event != "socket.connect":
            return
        address = arguments[1]
        # A tuple is IPv4 or IPv6; a path is a Unix socket, which no url can name.
        if isinstance(address, tuple) and not is_public(str(address[0])):
            raise BlockedError(f"{address[0]} is not an address of the public internet")

    sys.addaudithook(hook)
