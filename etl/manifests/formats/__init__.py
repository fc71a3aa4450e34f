"""One file per output format; this table is all that knows them."""

from __future__ import annotations

from etl.errors import UnknownNameError
from etl.manifests.formats.coco import Coco
from etl.manifests.formats.contract import DroppedError, Format, Plan
from etl.manifests.formats.instancediffusion import InstanceDiffusion
from etl.manifests.formats.jsonl import Jsonl
from etl.manifests.formats.meta_json import MetaJson

FORMATS: dict[str, type[Format]] = {cls.name: cls for cls in (InstanceDiffusion, MetaJson, Coco, Jsonl)}


def format_class(name: str) -> type[Format]:
    """The class of a format; raises UnknownNameError."""
    if name not in FORMATS:
        raise UnknownNameError("format", name, list(FORMATS))
    return FORMATS[name]


__all__ = ["FORMATS", "DroppedError", "Format", "Plan", "format_class"]
