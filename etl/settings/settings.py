"""Process-wide settings, read from ``GROUNDLAKE_*`` environment variables."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from etl.errors import ConfigurationError, UnknownNameError

PREFIX = "GROUNDLAKE_"


class Settings(BaseSettings):
    """What one process needs to know about the place it runs in; nothing here changes a result."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    lake: str | None = Field(None, description="Folder or uri of the lake; --lake wins over it")
    catalog: Path | None = Field(None, description="Folder with sources/, models/ and manifests/ of your own")
    profile: Literal["local", "kubernetes"] = Field("local", description="Where stages run: subprocess or pod")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu or cuda:N")
    scratch: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / "groundlake",
        description="Folder for bounded temporary files (tar copies, SQL spill)",
    )
    python: str = Field(sys.executable, description="Interpreter that runs a stage's subprocess")
    reference_python: Path | None = Field(None, description="Interpreter that has upstream's own packages")
    slice_size: int = Field(1000, ge=1, description="Images a slice of a work order holds")
    decode_threads: int = Field(2, ge=1, description="Threads that decode images ahead of the network")
    commit_deadline: float = Field(1800.0, gt=0, description="Seconds a commit keeps trying against conflicts")
    retention_days: int = Field(30, ge=7, le=90, description="Days that older versions of the tables stay readable")
    sweep_days: int = Field(7, ge=1, description="Days without progress after which a work order counts as dead")
    purge_hours: float = Field(24.0, ge=0, description="Hours until files a takedown replaced are deleted")
    sql_memory: str = Field("512MB", description="Memory limit of a SQL query; it spills beyond that")
    stage_pool: str = Field("gpu", description="Airflow pool that stage tasks take a slot of")
    pod_image: str = Field("groundlake-stages:local", description="Image of pods that run a stage")
    pod_ingest_image: str = Field("groundlake-ingest:local", description="Image of all other pods")
    pod_namespace: str | None = Field(None, description="Namespace of pods; else that of the Airflow connection")
    pod_secret: str | None = Field(None, description="Secret whose keys become variables of pods (store access)")
    failure_callback: str | None = Field(None, description="module:function called with the context of a failed task")


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        UnknownNameError: A ``GROUNDLAKE_`` variable is not a setting (a typing mistake would be ignored else).
        ConfigurationError: A value is not allowed.
    """
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise UnknownNameError("setting", name, known, remedy=f"correct or unset {name}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise ConfigurationError(
            f"{name}={first['input']!r}: {first['msg']}", remedy="see docs/settings.md for what it may hold"
        ) from error
