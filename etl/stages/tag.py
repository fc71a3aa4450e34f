"""tag: which of the tagger's tags a picture shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from etl.errors import ConfigurationError, UnknownNameError
from etl.models.contracts import Tagger, Task
from etl.models.label_prompts import TEMPLATES
from etl.models.label_vectors import kept_vectors
from etl.models.store import ModelStore
from etl.settings import ModelEntry
from etl.stages.contract import Result, Row, Stage, StageOptions, WorkItem
from etl.stages.crops import pictures_of
from etl.stages.name_files import names_given

OPEN_SET_THRESHOLD = 0.5  # of own labels, as upstream: the network is less sure of what it never learnt


class TagOptions(StageOptions):
    """What changes the tags of a picture."""

    threshold: float | None = Field(
        None, ge=0, le=1, description="One threshold for all tags that are on; else the weights' list"
    )
    quantile: float | None = Field(
        None, ge=0, lt=1, description="Instead: tags scored above this quantile of the picture's own scores"
    )
    exclude_tags: tuple[str, ...] = Field((), description="Tags never given, such as colours and verbs")
    max_tags: int | None = Field(None, ge=1, description="Keep the best only")
    labels: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Own tags instead of the tagger's, or file:<path> with one on each line; "
        "needs the network 'label_encoder'",
    )
    label_templates: tuple[str, ...] = Field(
        TEMPLATES, min_length=1, description="Sentences a label is embedded in, {} for it, {article} for a or an"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _read_labels(cls, value: Any) -> Any:
        return names_given(value)

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        seen: set[str] = set()
        for label in value or ():
            if not label.strip() or label in seen:
                raise ValueError(f"label {label!r} is empty or given twice")
            seen.add(label)
        return value

    @field_validator("label_templates")
    @classmethod
    def _check_templates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for template in value:
            try:
                text = template.format("label", article="a")
            except (IndexError, KeyError, ValueError) as error:
                raise ValueError(
                    f"template {template!r}: only {{}} and {{article}} are filled in ({error!r})"
                ) from error
            if "label" not in text:
                raise ValueError(f"template {template!r} has no {{}} for the label")
        return value

    @model_serializer(mode="wrap")
    def _without_unused(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what has no effect without labels: annotators from before there were any keep their ids."""
        content: dict[str, Any] = serialise(self)
        if self.labels is None:
            del content["labels"], content["label_templates"]
        return content


class TagStage(Stage):
    """Tags by RAM, RAM++ or Tag2Text, or own labels by RAM.

    The value is the set of tags, in order of name: scores do not make downstream stale.
    """

    name: ClassVar[str] = "tag"
    VERSION: ClassVar[int] = 1
    upstream: ClassVar[str | None] = None
    reads: ClassVar[tuple[str, ...]] = ()
    tables: ClassVar[tuple[str, ...]] = ("tags",)
    roles: ClassVar[Mapping[str, Task]] = {"tagger": "tagger"}
    optional_roles: ClassVar[Mapping[str, Task]] = {"label_encoder": "label-encoder"}
    Options: ClassVar[type[StageOptions]] = TagOptions
    options: TagOptions
    tagger: Tagger

    def __init__(self, entry: ModelEntry) -> None:
        super().__init__(entry)
        if (self.options.labels is None) != ("label_encoder" not in entry.networks):
            raise ConfigurationError(
                f"model {entry.name!r}: the option 'labels' and the network 'label_encoder' need each other",
                remedy="give both for own tags, or neither for the tagger's",
            )

    def load(self, models: ModelStore, device: str) -> None:
        """Load the tagger, and teach it the labels where there are own ones.

        Raises:
            ConfigurationError: The weights are wrong, the tagger has no open set, or an excluded tag is not one of its.
        """
        self.tagger = self.open("tagger", models, device)
        if self.options.labels is not None:
            self._ask_for_labels(models, device, self.options.labels)
        self._check_excluded()

    def _ask_for_labels(self, models: ModelStore, device: str, labels: tuple[str, ...]) -> None:
        if not hasattr(self.tagger, "ask_for"):
            family = self.entry.networks["tagger"].family
            raise ConfigurationError(
                f"model {self.entry.name!r}: a tagger of the family {family!r} cannot be asked for own labels",
                remedy="take one of the family 'ram', or leave 'labels' out",
            )
        templates, encoder = self.options.label_templates, self.entry.networks["label_encoder"]

        def make() -> npt.NDArray[np.float32]:
            # In float32 whatever the model's dtype: it is done once, and every picture's scores depend on it.
            opened = self.open("label_encoder", models, device, exact=True)
            vectors: npt.NDArray[np.float32] = opened.label_vectors(labels, templates)
            return vectors

        self.tagger.ask_for(labels, kept_vectors(models, encoder, labels, templates, make), OPEN_SET_THRESHOLD)

    def process(self, batch: Sequence[WorkItem]) -> list[Result]:
        return [self._result(scores) for scores in self.tagger.scores(pictures_of(batch))]

    def _result(self, scores: npt.NDArray[np.float32]) -> Result:
        if not np.isfinite(scores).all():
            return Result("failed", "not_finite", error="the tagger gave scores that are not finite")
        tags = self.choose(scores)
        if not tags:
            return Result("empty", "no_tags", value=[])
        return Result("ok", rows={"tags": [{"tags": tags}]}, value=sorted(tag["tag"] for tag in tags))

    def choose(self, scores: npt.NDArray[np.float32]) -> list[Row]:
        """The tags of one picture, best first; equal scores in the order of the tag list, each name once.

        A tag whose own threshold is 1 is off, whatever the options say.

        Args:
            scores: Sigmoid scores [tags]. They are rounded to 1e-4 before anything is decided, so that the last bits,
                which differ from machine to machine, seldom matter.
        """
        rounded = np.asarray(np.round(scores.astype(np.float64), 4), dtype=np.float64)
        above = (rounded > self._thresholds(rounded)) & (self.tagger.thresholds < 1)
        best: dict[str, float] = {}
        for index in sorted(np.flatnonzero(above), key=lambda index: (-rounded[index], index)):
            tag = self.tagger.tags[index]
            if tag not in self.options.exclude_tags:
                best.setdefault(tag, float(rounded[index]))  # a name may stand for two tags: a noun and a verb
        return [{"tag": tag, "score": score} for tag, score in list(best.items())[: self.options.max_tags]]

    def _thresholds(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | float:
        if self.options.quantile is not None:
            return float(np.quantile(scores, self.options.quantile))
        return self.tagger.thresholds if self.options.threshold is None else self.options.threshold

    def _check_excluded(self) -> None:
        for tag in self.options.exclude_tags:
            if tag not in self.tagger.tags:
                raise UnknownNameError("tag in exclude_tags", tag, self.tagger.tags[:20])
