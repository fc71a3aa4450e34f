"""Stage name to stage class. Modules are imported when asked for; adding a stage is one file and one line."""

from __future__ import annotations

from importlib import import_module

from etl.errors import UnknownNameError
from etl.stages.contract import Stage

_STAGES = {
    "tag": "etl.stages.tag:TagStage",
    "ground": "etl.stages.ground:GroundStage",
    "caption": "etl.stages.caption:CaptionStage",
    "embed": "etl.stages.embed:EmbedStage",
}


def stage_class(name: str) -> type[Stage]:
    """The class of a stage; raises UnknownNameError."""
    if name not in _STAGES:
        raise UnknownNameError("stage", name, list(_STAGES))
    module, attribute = _STAGES[name].split(":")
    cls: type[Stage] = getattr(import_module(module), attribute)
    return cls
