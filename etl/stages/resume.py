"""Requests of the command line that were cut short: the same command, given again, goes on with them.

An Airflow run has a name that every retry repeats; a command has none. So its request is noted under a digest of its
options until it has ended.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from etl.lake import Lake
from etl.lake.ids import digest
from etl.storage import NotFoundError


def unfinished(lake: Lake, options: Mapping[str, Any]) -> str | None:
    """The name of the request that a command with these options has begun and not ended, or None."""
    try:
        return str(lake.store.read_json(_place(options))["name"])
    except NotFoundError:
        return None


def begin(lake: Lake, options: Mapping[str, Any]) -> str:
    """The name under which a command with these options works: of two at once both get the same."""
    name = f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    lake.store.put_if_absent(_place(options), json.dumps({"name": name, "options": dict(options)}).encode())
    return unfinished(lake, options) or name


def end(lake: Lake, options: Mapping[str, Any]) -> None:
    """Forget the request: the next command with these options makes a new one."""
    lake.store.delete(_place(options))


def _place(options: Mapping[str, Any]) -> str:
    return f"units/requests/open/{digest(dict(options))}.json"
