"""Scores of annotators against the truth in the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from etl.evaluate.boxes import AveragePrecision, Precision
from etl.evaluate.captions import CaptionCounter, CaptionScores
from etl.evaluate.choose import Annotator, Chosen, choose
from etl.evaluate.classes import ClassMap
from etl.evaluate.masks import MaskCounter, MaskScores
from etl.evaluate.matching import match
from etl.evaluate.rows import Pair, Rows
from etl.evaluate.tags import Agreement, TagCounter, TagScores
from etl.evaluate.worst import ImageScore, image_score, worst
from etl.lake import Lake, Snapshot

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Line:
    """One score; ``what.score`` is its name in JSON and for ``--min``.

    Attributes:
        what: What was scored: ``tags``, ``tags.groups.colours``, ``boxes``, ``captions.images``, …
        score: Which measure.
        value: The score, 0..1; None when there was nothing to score.
        n: Over how many: tags or instances of the truth (for precision: of the prediction), matches, captions.
    """

    what: str
    score: str
    value: float | None
    n: int

    @property
    def name(self) -> str:
        """The full name of the score."""
        return f"{self.what}.{self.score}"


@dataclass(frozen=True)
class ImageCounts:
    """The images behind the scores.

    Attributes:
        evaluated: Images that count for any stage.
        per_stage: Images whose truth is ok or empty, per scored stage.
        without_outcome: Of these, images without an outcome of the scored annotator: they count as without predictions.
        failed: Of these, images whose outcome of the scored annotator is failed: likewise.
        truth_failed: Further images, whose truth is failed: they are left out.
    """

    evaluated: int
    per_stage: Mapping[str, int]
    without_outcome: Mapping[str, int]
    failed: Mapping[str, int]
    truth_failed: Mapping[str, int]


@dataclass(frozen=True)
class Evaluation:
    """Every score, and what it was made of.

    Attributes:
        chosen: Who was compared with whom.
        classes: How labels were renamed.
        tags: Scores of tags.
        boxes: Scores of boxes.
        masks: Scores of masks.
        captions: Scores of captions.
        images: The images behind them.
        worst: The images that went worst, worst first.
        notes: What a reader of the scores must know.
    """

    chosen: Chosen
    classes: ClassMap
    tags: TagScores
    boxes: Precision
    masks: MaskScores
    captions: CaptionScores
    images: ImageCounts
    worst: tuple[ImageScore, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[Line]:
        """The scores in the order of the stages; those of a stage that was not scored are None."""
        return [*self._tag_lines(), *self._instance_lines(), *self._caption_lines()]

    def to_json(self) -> dict[str, Any]:
        """All scores, counts and names, of JSON values only."""
        masks, segm = asdict(self.masks), self.masks.precision
        del masks["precision"]
        return {
            "tags": _agreement(self.tags.total)
            | {
                "groups": {name: _agreement(one) for name, one in self.tags.groups.items()},
                "per_tag": {name: _agreement(one) for name, one in self.tags.per_tag.items()},
                "ignored": self.tags.ignored,
            },
            "boxes": asdict(self.boxes),
            "masks": masks | {"ap": segm.ap, "ap50": segm.ap50, "ap75": segm.ap75},
            "captions": asdict(self.captions),
            "images": asdict(self.images),
            "annotators": {
                stage: {"truth": _annotator(one), "predicted": _annotator(self.chosen.predicted.get(stage))}
                for stage, one in self.chosen.truth.items()
            },
            "worst": [asdict(one) | {"score": one.score} for one in self.worst],
            "notes": list(self.notes),
        }

    def _tag_lines(self) -> Iterator[Line]:
        total = self.tags.total or Agreement()
        for what, one in (("tags", total), *((f"tags.groups.{name}", one) for name, one in self.tags.groups.items())):
            yield Line(what, "f1", one.f1, one.truth)
            yield Line(what, "precision", one.precision, one.predicted)
            yield Line(what, "recall", one.recall, one.truth)

    def _instance_lines(self) -> Iterator[Line]:
        for score in ("ap", "ap50", "ap75"):
            yield Line("boxes", score, getattr(self.boxes, score), self.boxes.truth)
        yield Line("masks", "mean_iou", self.masks.mean_iou, self.masks.matched)
        yield Line("masks", "ap", self.masks.precision.ap, self.masks.truth)

    def _caption_lines(self) -> Iterator[Line]:
        for what, texts in (("instances", self.captions.instances), ("images", self.captions.images)):
            yield Line(f"captions.{what}", "exact", texts.exact, texts.n)
            yield Line(f"captions.{what}", "word_f1", texts.word_f1, texts.n)


def evaluate(
    lake: Lake,
    *,
    truth: str,
    source: str | None = None,
    annotators: Sequence[str] = (),
    classes: ClassMap | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score annotators against a truth of the lake, over one snapshot of it.

    An image counts for a stage when its truth is ok or empty; whatever the scored annotator did not answer (no outcome
    yet, or a failed one) counts as no prediction, never as no image. Nothing depends on the order of rows.

    Args:
        lake: The lake.
        truth: Name of a dataset, or an annotator's id or the unique beginning of it; several with commas between.
        source: Only images of this source.
        annotators: Who is scored, at most one per stage; else the current annotator of the source.
        classes: How labels of the scored annotators are called in the truth, and groups of tags.
        progress: Told (done, all) images.

    Raises:
        UnknownNameError: A name, id or source is not there, or the beginning of an id is not unique.
        ConfigurationError: A stage has two annotators or cannot be scored, or current annotators differ by source.
        DataError: There is nothing to score, or masks of one image differ in size.
        RetryableError: The store or the SQL engine failed.
    """
    names = classes or ClassMap()
    counters = _Counters()
    with Snapshot.take(lake).connect() as connection:
        chosen = choose(connection, truth=truth, source=source, annotators=annotators)
        rows, done = Rows(connection, chosen, names), 0
        for pairs in rows.ranges():
            counters.add(pairs)
            done += len(pairs)
            if progress is not None:
                progress(done, rows.images)
    return counters.evaluation(chosen, names, rows)


class _Counters:
    """All measures together, fed with a range of images at a time."""

    def __init__(self) -> None:
        self._tags, self._captions, self._masks = TagCounter(), CaptionCounter(), MaskCounter()
        self._boxes = AveragePrecision("bbox")
        self._worst: tuple[ImageScore, ...] = ()

    def add(self, pairs: Sequence[Pair]) -> None:
        matched = [match(pair.truth.instances, pair.predicted.instances) for pair in pairs]
        self._boxes.add(pairs)
        self._masks.add(pairs, matched)
        scores = []
        for pair, matches in zip(pairs, matched, strict=True):
            self._tags.add(pair.truth.tags, pair.predicted.tags)
            scores.append(image_score(pair, matches, self._captions.add(pair, matches)))
        self._worst = worst([*self._worst, *scores])

    def evaluation(self, chosen: Chosen, classes: ClassMap, rows: Rows) -> Evaluation:
        stages = chosen.stages
        counts = _image_counts(chosen, rows)
        tags = self._tags.scores(classes.groups, rows.ignored["tag"]) if "tag" in stages else TagScores()
        boxes, masks = Precision(), MaskScores()
        if "ground" in stages:
            boxes = self._boxes.result(rows.ignored["ground"])
            masks = self._masks.scores(rows.ignored["ground"])
        named = {name for name, one in tags.per_tag.items() if one.truth}
        named |= {name for name, one in boxes.classes.items() if one.truth}
        notes = [*chosen.notes, *_unanswered(chosen, counts), *_maskless(masks), *_misspelt(classes, named)]
        return Evaluation(
            chosen, classes, tags, boxes, masks, self._captions.scores(), counts, self._worst, tuple(notes)
        )


def _image_counts(chosen: Chosen, rows: Rows) -> ImageCounts:
    per_stage = {row["values"]: row["counts"] for row in chosen.scope["stage"].value_counts().to_pylist()}
    counts = (per_stage, rows.without_outcome, rows.failed, chosen.truth_failed)
    return ImageCounts(rows.images, *({stage: int(one.get(stage, 0)) for stage in chosen.stages} for one in counts))


def _unanswered(chosen: Chosen, counts: ImageCounts) -> Iterator[str]:
    for stage in chosen.stages:
        for what, n in (("no outcome", counts.without_outcome[stage]), ("a failed outcome", counts.failed[stage])):
            if n:
                who = chosen.predicted[stage]
                yield f"{stage}: {n} of {counts.per_stage[stage]} images have {what} of {who}: scored as no prediction"
        if counts.truth_failed[stage]:
            yield f"{stage}: {counts.truth_failed[stage]} further images are left out, their truth failed"


def _maskless(masks: MaskScores) -> Iterator[str]:
    if masks.without_mask:
        yield f"masks: {masks.without_mask} images are left out, their truth has boxes without masks"


def _misspelt(classes: ClassMap, named: set[str]) -> Iterator[str]:
    missing = sorted(classes.targets() - named)
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        yield f"the class map names what the truth never does: {', '.join(missing[:10])}{more}"


def _agreement(one: Agreement | None) -> dict[str, Any]:
    counts = one or Agreement()
    return {"f1": counts.f1, "precision": counts.precision, "recall": counts.recall} | asdict(counts)


def _annotator(one: Annotator | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"annotator_id": one.annotator_id, "model": one.model, "kind": one.kind, "untrained": one.untrained}
