"""A converter for tests of what is around it: its output depends on the checkpoint's bytes and on nothing else.

What it refuses it says like the real one; the real one has tests of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from etl.errors import ConfigurationError
from etl.models.folders import MODEL_TYPES

VERSION = "1"


@dataclass(frozen=True)
class Report:
    """What became of the keys, in the form of ``etl.models.checkpoints``."""

    renamed: Mapping[str, str] = field(default_factory=lambda: {"image_encoder.a": "vision_encoder.a"})
    dropped: Mapping[str, str] = field(default_factory=lambda: {"pixel_mean": "not needed", "pixel_std": "not needed"})
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


def convert(family: str, files: Mapping[str, Path], out: Path) -> Report:
    """Write a folder that passes for a converted one; a checkpoint that begins with "SAM-HQ" passes for one."""
    checkpoint = next(path for name, path in files.items() if name.endswith(".pth"))
    content = checkpoint.read_bytes()
    if content.startswith(b"SAM-HQ") and family != "sam-hq":
        raise ConfigurationError(f"{checkpoint.name}: this is a SAM-HQ checkpoint", remedy="name the right weights")
    (out / "config.json").write_text(f'{{"model_type": "{MODEL_TYPES[family]}", "made_by": "{VERSION}"}}')
    (out / "model.safetensors").write_bytes(content[: len(content) // 2])
    return Report()


def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put it in the place of the real one; gives the module that stands there."""
    module = ModuleType("etl.models.checkpoints")
    module.convert = convert  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "etl.models.checkpoints", module)
    return module
