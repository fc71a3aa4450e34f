"""Downloads of pictures stay on the public internet: a url list is input of strangers."""

from __future__ import annotations

import sys

from etl.storage.addresses import check_connection


def forbid_private_addresses() -> None:
    """Make every further connection of this process to a private address raise BlockedError. It cannot be undone."""
    sys.addaudithook(check_connection)
