"""Why a checkpoint was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from etl.errors import DataError

AGAIN = "download it again from its authors, and compare its sha256 with theirs"


class CheckpointError(DataError):
    """A checkpoint cannot be taken."""


class NotACheckpointError(CheckpointError):
    """A file holds something else than a state dict of tensors."""


class DamagedCheckpointError(CheckpointError):
    """A file is empty, cut short or damaged."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"{path} is {detail}", remedy=AGAIN)


class CodeInCheckpointError(CheckpointError):
    """A file asks for more than tensors: reading it would run what it names. Nothing of it was run."""

    def __init__(self, path: Path, named: str) -> None:
        super().__init__(
            f"{path} carries code: it asks for {named}. It was refused, and nothing of it was run",
            remedy="take the file from the network's authors; a checkpoint of your own: save its state dict, tensors "
            "only, as safetensors",
        )
        self.named = named


class QuantisedError(CheckpointError):
    """A tensor holds other numbers than networks are trained in."""

    def __init__(self, path: Path, key: str, dtype: str) -> None:
        super().__init__(
            f"{path}: {key!r} holds numbers of type {dtype}, where float32, float16, bfloat16 or float64 was expected",
            remedy="give the checkpoint as its authors publish it, not a quantised one",
        )


class WrongFamilyError(CheckpointError):
    """A checkpoint is of another family."""

    def __init__(self, path: Path, family: str, found: str) -> None:
        super().__init__(
            f"{path} is a {TITLES[found]} checkpoint, but one of {TITLES[family]} is needed",
            remedy=f"give it as family {found!r}, or give the checkpoint of {TITLES[family]}",
        )
        self.family, self.found = family, found


class WrongKeysError(CheckpointError):
    """The tensors of a checkpoint are not those of its network.

    Attributes:
        missing: What the network needs and no key of the checkpoint gives.
        unexpected: Keys of the checkpoint that the network has no use for.
        shapes: Keys of the checkpoint of another shape, with what was found and expected.
    """

    def __init__(
        self,
        path: Path,
        family: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        shapes: Mapping[str, str] | None = None,
    ) -> None:
        self.missing, self.unexpected, self.shapes = tuple(missing), tuple(unexpected), dict(shapes or {})
        parts = [
            _listed("missing", self.missing),
            _listed("not known", self.unexpected),
            _listed("of another shape", [f"{key} {text}" for key, text in self.shapes.items()]),
        ]
        super().__init__(
            f"{path} does not fit {TITLES[family]}: {'; '.join(part for part in parts if part)}",
            remedy=f"{AGAIN}; a network of another build than the authors' cannot be converted",
        )


TITLES = {
    "ram": "RAM",
    "ram-plus": "RAM++",
    "tag2text": "Tag2Text",
    "groundingdino": "GroundingDINO",
    "sam": "SAM",
    "sam-hq": "SAM-HQ",
    "blip2": "BLIP-2",
    "qwen-vl": "Qwen-VL",
    "clip-text": "CLIP",
}


def _listed(what: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    shown = ", ".join(items[:5]) + (", …" if len(items) > 5 else "")
    return f"{len(items)} {'key is' if len(items) == 1 else 'keys are'} {what}: {shown}"
