"""What every format is: open a folder, write examples one by one, close."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from etl.manifests.example import Example
from etl.manifests.files import Files
from etl.settings.catalog import validated


class DroppedError(Exception):
    """This image cannot be part of the manifest; nothing of it was written. Counted by ``reason`` in the lock."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FormatOptions(BaseModel):
    """Options all formats share."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    image_caption: Literal["source_first", "generated_first", "source", "generated"] = Field(
        "source_first", description="Which caption stands for the image; a caption column of the SQL goes before it"
    )
    min_instances: int = Field(0, ge=0, description="Images with fewer objects are dropped, and counted")
    jpeg_quality: int = Field(95, ge=1, le=100, description="Of pictures that must be encoded again")


@dataclass(frozen=True)
class Plan:
    """What a format knows before the first example.

    Attributes:
        name: Name of the manifest.
        splits: Names of all splits, sorted.
        labels: Every label of the chosen instances, sorted.
    """

    name: str
    splits: Sequence[str]
    labels: Sequence[str]


class Format(ABC):
    """Writes one kind of manifest. Equal examples in equal order give equal bytes.

    A subclass says which stages an image must have been through (``requires``) and whether it needs embeddings.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int]  # raised when equal examples give other bytes; part of a manifest's version
    Options: ClassVar[type[FormatOptions]] = FormatOptions
    requires: ClassVar[tuple[str, ...]] = ("ground",)
    needs_embeddings: ClassVar[bool] = False

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Validate the options.

        Raises:
            ConfigurationError: An option is unknown or its value not allowed.
        """
        self.options = validated(self.Options, dict(options), f"options of format {self.name!r}")
        self.notes: Counter[str] = Counter()  # what a reader of the lock should know: re-encoded pictures, …

    @property
    def needs_pictures(self) -> bool:
        """Whether ``write`` is given the stored bytes; else it gets none."""
        return True

    @abstractmethod
    def open(self, files: Files, plan: Plan) -> None:
        """Begin in an empty folder."""

    @abstractmethod
    def write(self, example: Example, data: bytes) -> int:
        """Write one image, given its stored bytes; returns the number of annotations written.

        Raises:
            DroppedError: It cannot be part of this manifest.
            PictureError: Its bytes do not decode.
        """

    @abstractmethod
    def close(self) -> None:
        """Write what is only known at the end."""

    def caption(self, example: Example) -> str:
        """The caption that stands for the image, as the options choose; empty when there is none."""
        source, generated = example.source_caption, example.caption
        by_choice = {
            "source_first": source or generated,
            "generated_first": generated or source,
            "source": source,
            "generated": generated,
        }
        return example.override or by_choice[self.options.image_caption] or ""

    def check_instances(self, example: Example) -> None:
        """Raise DroppedError when there are fewer instances than the options ask for."""
        if len(example.instances) < self.options.min_instances:
            raise DroppedError("too_few_instances")
