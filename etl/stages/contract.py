"""What a stage is: what it reads, what it writes, and how it turns a batch of images into results.

The runner (``etl.stages.runner``) does everything else: orders, slices, decoding, batching, commits, progress.
Modules here never import torch when they are imported; networks are reached inside ``load``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict

from etl.models.contracts import Task
from etl.models.store import ModelStore
from etl.settings import ModelEntry
from etl.settings.catalog import STAGES, validated
from etl.stages.networks import check_roles, open_role

Status = Literal["ok", "empty", "failed"]
Row = dict[str, Any]


class StageOptions(BaseModel):
    """Options of a stage that change its results; a subclass per stage gives them types, ranges and defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class WorkItem:
    """One image as a stage sees it.

    Attributes:
        image_id: The image.
        shard_id: Its shard.
        width: Pixels after EXIF orientation.
        height: Pixels after EXIF orientation.
        picture: RGB pixels after EXIF orientation; None for a stage with ``needs_pixels = False``.
        upstream: Rows of the upstream tables for this image (``tags``, ``instances``, ``captions``), oldest key order.
    """

    image_id: str
    shard_id: str
    width: int
    height: int
    picture: Image.Image | None
    upstream: Mapping[str, Sequence[Row]] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a stage made of one image.

    Attributes:
        status: ok, empty or failed.
        reason: Why it is empty or failed, as a short name (``no_boxes``, ``not_finite``).
        rows: Rows per table, without ``image_id``, ``shard_id``, ``annotator_id`` and ``unit``, which the runner adds.
        value: JSON of what was produced, by meaning; its digest decides whether downstream is stale.
        error: The error in words, when failed.
        retryable: Whether planning may try the image again.
    """

    status: Status
    reason: str | None = None
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    value: Any = None
    error: str | None = None
    retryable: bool = False


class Stage(ABC):
    """A computation over images. A subclass is checked when it is defined."""

    name: ClassVar[str]
    VERSION: ClassVar[int]  # raised only when outputs change; part of the annotator id
    upstream: ClassVar[str | None]  # the stage whose value_digest is this one's input_digest
    reads: ClassVar[tuple[str, ...]]  # upstream tables whose rows an item carries
    tables: ClassVar[tuple[str, ...]]  # what it writes, besides outcomes
    roles: ClassVar[Mapping[str, Task]]  # the networks its catalog entry must give, and what each is asked to do
    optional_roles: ClassVar[Mapping[str, Task]] = {}  # further ones that it may give
    Options: ClassVar[type[StageOptions]]
    needs_pixels: ClassVar[bool] = True
    mixes_shapes: ClassVar[bool] = False  # whether batches may hold several shapes, which it then tells apart itself

    def __init_subclass__(cls) -> None:
        """Refuse a stage that forgets a part of the contract, when its module is imported."""
        for attribute in ("name", "VERSION", "upstream", "reads", "tables", "roles", "Options"):
            if not hasattr(cls, attribute):
                raise TypeError(f"stage {cls.__name__} must define {attribute}; see etl.stages.contract.Stage")
        if cls.name not in STAGES or (cls.upstream is not None and cls.upstream not in STAGES):
            raise TypeError(f"stage {cls.__name__}: name and upstream must be among {STAGES}")

    def __init__(self, entry: ModelEntry) -> None:
        """Validate the catalog entry; loads nothing.

        Raises:
            ConfigurationError: An option or a network of the entry is wrong.
        """
        check_roles(entry, self.name, self.roles, self.optional_roles)
        self.entry = entry
        self.options = validated(self.options_type(), dict(entry.options), f"options of model {entry.name!r}")

    def options_type(self) -> type[StageOptions]:
        """The type of the entry's options; a stage whose families take different ones looks at the entry's networks."""
        return self.Options

    @abstractmethod
    def load(self, models: ModelStore, device: str) -> None:
        """Load the networks onto ``device`` (``cpu`` or ``cuda:N``), each by ``open``."""

    def open(self, role: str, models: ModelStore, device: str, *, exact: bool = False) -> Any:
        """The network that the entry gives a role: an object that fulfils the protocol of the role's task.

        ``exact`` opens it in float32 without the entry's switches, whatever the entry says.
        """
        task = {**self.roles, **self.optional_roles}[role]
        return open_role(self.entry, role, task, models, device, exact=exact)

    @abstractmethod
    def process(self, batch: Sequence[WorkItem]) -> list[Result]:
        """One result per item, in order. A result never depends on batch mates."""

    def skip(self, item: WorkItem) -> Result | None:
        """A result that needs no network (``empty/no_tags``), or None. Called before the picture is decoded."""
        return None

    def shape(self, width: int, height: int) -> Hashable:
        """Images of one shape are worked one after another; unless ``mixes_shapes``, only they share a batch."""
        return None
