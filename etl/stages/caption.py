"""caption: a sentence for the picture and one for every instance's crop, by BLIP-2 or an instructed network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from PIL import Image
from pydantic import Field, model_validator

from etl.models.contracts import Captioner, Task
from etl.models.store import ModelStore
from etl.stages.contract import Result, Row, Stage, StageOptions, WorkItem
from etl.stages.crops import crop_box, is_large_enough, pictures_of

if TYPE_CHECKING:
    from etl.models.blip2 import Caption

Flag = Literal["empty", "echo", "loop", "label"]
REPEATS = 3  # of the same one to four words in a row
# What the rich-context pipeline asks of Qwen-VL, in words of our own: one sentence, how things stand to each other in
# space, nothing else.
RICH_CONTEXT = (
    "Describe this image in one sentence: name every object with what can be seen of it, and above all say where the "
    "objects are in relation to each other. Answer with that sentence alone."
)


class CaptionOptions(StageOptions):
    """What changes the captions of a picture."""

    prompt: str = Field("", description="Text the captioner goes on from")
    beams: int = Field(5, ge=1, description="Beams of the search")
    max_new_tokens: int = Field(30, ge=1, description="Tokens a caption may have")


class InstructedOptions(CaptionOptions):
    """What changes the captions of a network that is told what to say (family qwen-vl)."""

    prompt: str = Field(RICH_CONTEXT, min_length=1, description="What the captioner is asked to do")
    beams: int = Field(1, ge=1, description="Beams of the search; 1 is greedy")
    max_new_tokens: int = Field(128, ge=1, description="Tokens a caption may have")
    min_pixels: int = Field(256 * 256, ge=1, description="A smaller picture is enlarged to about so many pixels")
    max_pixels: int = Field(512 * 512, ge=1, description="A larger picture is reduced to at most so many pixels")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is more than max_pixels {self.max_pixels}")
        return self


OPTIONS: dict[str, type[CaptionOptions]] = {"qwen-vl": InstructedOptions}  # by family; the others take CaptionOptions


class CaptionStage(Stage):
    """Captions of the picture and its instances. The value is the list of instance (or null) and caption."""

    name: ClassVar[str] = "caption"
    VERSION: ClassVar[int] = 2  # 2: scores are the same in any batch, to the last digit
    upstream: ClassVar[str | None] = "ground"
    reads: ClassVar[tuple[str, ...]] = ("instances",)
    tables: ClassVar[tuple[str, ...]] = ("captions",)
    roles: ClassVar[Mapping[str, Task]] = {"captioner": "captioner"}
    Options: ClassVar[type[StageOptions]] = CaptionOptions
    options: CaptionOptions
    captioner: Captioner

    def options_type(self) -> type[StageOptions]:
        return OPTIONS.get(self.entry.networks["captioner"].family, CaptionOptions)

    def load(self, models: ModelStore, device: str) -> None:
        self.captioner = self.open("captioner", models, device)

    def process(self, batch: Sequence[WorkItem]) -> list[Result]:
        crops = [crops_of(item, picture) for item, picture in zip(batch, pictures_of(batch), strict=True)]
        captions = iter(
            self.captioner.captions(
                [crop for many in crops for _, crop in many],
                batch_size=len(batch),  # the runner's: it is halved when memory runs out
                **self.options.model_dump(),  # each family's options are the arguments of its captioner
            )
        )
        answers = [{instance: next(captions) for instance, _ in many} for many in crops]
        return [self._result(item, answer) for item, answer in zip(batch, answers, strict=True)]

    def _result(self, item: WorkItem, answers: dict[str | None, Caption]) -> Result:
        if any(answer.score is not None and not math.isfinite(answer.score) for answer in answers.values()):
            return Result("failed", "not_finite", error="the captioner gave scores that are not finite")
        rows = [self._row(None, answers[None])]
        for instance in instances_of(item):
            key = instance["instance_id"]
            rows.append(self._row(key, answers[key]) if key in answers else _label_row(key, instance["label"]))
        return Result("ok", rows={"captions": rows}, value=[[row["instance_id"], row["caption"]] for row in rows])

    def _row(self, instance_id: str | None, answer: Caption) -> Row:
        score = None if answer.score is None else round(min(answer.score, 0.0), 4)
        flag = degenerate(answer.text, self.options.prompt)
        return {"instance_id": instance_id, "caption": answer.text, "score": score, "flag": flag}


def _label_row(instance_id: str, label: str) -> Row:
    return {"instance_id": instance_id, "caption": label, "score": None, "flag": "label"}


def instances_of(item: WorkItem) -> list[Row]:
    """The item's instances in order of their ids, so that equal instances give equal values in any order of rows."""
    return sorted(item.upstream.get("instances", ()), key=lambda row: str(row["instance_id"]))


def crops_of(item: WorkItem, picture: Image.Image) -> list[tuple[str | None, Image.Image]]:
    """What to caption: the whole picture under None, then the crop of each instance that is large enough."""
    boxes = [(str(row["instance_id"]), crop_box(row)) for row in instances_of(item)]
    return [(None, picture), *((key, picture.crop(box)) for key, box in boxes if is_large_enough(box))]


def degenerate(text: str, prompt: str = "") -> Flag | None:
    """What is wrong with a caption: no word in it, nothing but the prompt, or a phrase repeated without end.

    >>> degenerate(" ."), degenerate("A photo of", "a photo of"), degenerate("a cat a cat a cat"), degenerate("a cat")
    ('empty', 'echo', 'loop', None)
    """
    words = re.findall(r"[^\W_]+", text.lower())
    if not words:
        return "empty"
    if prompt and " ".join(words) in " ".join(re.findall(r"[^\W_]+", prompt.lower())):
        return "echo"
    for size in range(1, 5):
        for start in range(len(words) - size * REPEATS + 1):
            if words[start : start + size] * REPEATS == words[start : start + size * REPEATS]:
                return "loop"
    return None
