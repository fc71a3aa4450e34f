"""tag: which of the tagger's tags a picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from etl.errors import UnknownNameError
from etl.models.store import ModelStore
from etl.stages.contract import Result, Row, Stage, StageOptions, WorkItem
from etl.stages.crops import pictures_of

if TYPE_CHECKING:
    from etl.models.contracts import Tagger


class TagOptions(StageOptions):
    """What changes the tags of a picture."""

    threshold: float | None = Field(None, ge=0, le=1, description="One threshold for all tags; else the weights' list")
    quantile: float | None = Field(
        None, ge=0, lt=1, description="Instead: tags scored above this quantile of the picture's own scores"
    )
    exclude_tags: tuple[str, ...] = Field((), description="Tags never given, such as colours and verbs")
    max_tags: int | None = Field(None, ge=1, description="Keep the best only")


class TagStage(Stage):
    """Tags by RAM. The value is the set of tags, in order of name: scores do not make downstream stale."""

    name: ClassVar[str] = "tag"
    VERSION: ClassVar[int] = 1
    upstream: ClassVar[str | None] = None
    reads: ClassVar[tuple[str, ...]] = ()
    tables: ClassVar[tuple[str, ...]] = ("tags",)
    roles: ClassVar[tuple[str, ...]] = ("tagger",)
    Options: ClassVar[type[StageOptions]] = TagOptions
    options: TagOptions
    tagger: Tagger

    def load(self, models: ModelStore, device: str) -> None:
        """Load RAM.

        Raises:
            ConfigurationError: The weights are wrong, or an excluded tag is not one of the tagger's.
        """
        from etl.models.families import open_network
        from etl.models.load import materialise

        network = self.entry.networks["tagger"]
        self.tagger = open_network(network.family, "tagger", materialise(models, network), device, self.entry.dtype)
        self._check_excluded()

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
        """The tags of one picture, best first; equal scores in the order of the tag list.

        Args:
            scores: Sigmoid scores [tags]. They are rounded to 1e-4 before anything is decided, so that the last bits,
                which differ from machine to machine, seldom matter.
        """
        rounded = np.asarray(np.round(scores.astype(np.float64), 4), dtype=np.float64)
        chosen = [
            index
            for index in np.flatnonzero(rounded > self._thresholds(rounded))
            if self.tagger.tags[index] not in self.options.exclude_tags
        ]
        chosen.sort(key=lambda index: (-rounded[index], index))
        return [{"tag": self.tagger.tags[i], "score": float(rounded[i])} for i in chosen[: self.options.max_tags]]

    def _thresholds(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | float:
        if self.options.quantile is not None:
            return float(np.quantile(scores, self.options.quantile))
        return self.tagger.thresholds if self.options.threshold is None else self.options.threshold

    def _check_excluded(self) -> None:
        for tag in self.options.exclude_tags:
            if tag not in self.tagger.tags:
                raise UnknownNameError("tag in exclude_tags", tag, self.tagger.tags[:20])
