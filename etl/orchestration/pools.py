"""The Airflow pools tasks take slots of.

They must exist before the first run: a task whose pool does not exist waits forever, with a warning nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from etl.settings import Settings

DOWNLOAD_POOL = "download"


@dataclass(frozen=True)
class Pool:
    """One pool: how many tasks of the whole installation may hold it at a time, and why."""

    slots: int
    description: str


def pools(settings: Settings, profile: Literal["local", "kubernetes"] | None = None) -> dict[str, Pool]:
    """The pools by name.

    Args:
        settings: Names the pool of the stages.
        profile: Where stages run; that of the settings when None.
    """
    local = (profile or settings.profile) == "local"
    return {
        settings.stage_pool: Pool(
            2 if local else 8,
            "Stage commands at a time on this machine" if local else "GPUs that stage pods may hold at a time",
        ),
        DOWNLOAD_POOL: Pool(2 if local else 16, "Shards downloading at a time"),
    }
