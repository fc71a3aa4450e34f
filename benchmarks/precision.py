"""What bfloat16 changes, and what a batch changes in it: ``.venv/bin/python benchmarks/precision.py``.

The packaged networks answer about held-out scenes in float32 and as a model's file with ``dtype: bfloat16`` sets them;
both answers are also held against the scenes' truth. GroundingDINO, which stays float32 in either, is shown with its
products in bfloat16 (by autocast), which is why, and with the inputs of its products rounded to the ten bits of TF32,
which is what ``bfloat16`` lets a GPU do. Then batches in bfloat16: equal shapes in another order, among other pictures
and filled up, where nothing may change; and of another size, where something may. One thread, on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from etl.models.batches import fill
from etl.models.store import ModelStore
from etl.settings import load_catalog
from etl.shapes.world.scene import Scene
from etl.shapes.world.splits import numbered_scene
from etl.stages.boxes import iou
from etl.stages.caption import CaptionStage
from etl.stages.contract import Stage
from etl.stages.crops import is_large_enough
from etl.stages.embed import EmbedStage
from etl.stages.ground import Found, GroundStage
from etl.stages.prompts import plan_prompts
from etl.stages.tag import TagStage
from etl.storage import LocalStore

BATCH = 8
SAME_BOX = 0.95  # IoU of two boxes that are the same
Masks = list[npt.NDArray[np.bool_]]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Figure:
    """One figure of a group."""

    group: str
    name: str
    value: str


class Answers:
    """The packaged networks in one dtype, and what they say of scenes."""

    def __init__(self, models: ModelStore, dtype: str) -> None:
        self.tag = _opened(TagStage, models, dtype)
        self.ground = _opened(GroundStage, models, dtype)
        self.caption = _opened(CaptionStage, models, dtype)
        self.embed = _opened(EmbedStage, models, dtype)

    def scores(self, pictures: Sequence[Image.Image], size: int = BATCH) -> Scores:
        """Scores of all tags [pictures, tags], in batches that are filled up as the runner does."""
        batches = (pictures[start : start + size] for start in range(0, len(pictures), size))
        return np.concatenate([self.tag.tagger.scores(fill(batch, size))[: len(batch)] for batch in batches])

    def tags(self, scores: Scores) -> list[set[str]]:
        """The tags that the stage chooses, per picture."""
        return [{tag["tag"] for tag in self.tag.choose(row)} for row in scores]

    def masks(self, scenes: Sequence[Scene], size: int = BATCH) -> list[Masks]:
        """Masks of the true boxes, per scene."""
        boxes = [np.asarray([one.box for one in scene.instances], np.float32) for scene in scenes]
        return [list(found.masks()) for found in self.ground.segmenter.segment(pictures_of(scenes), boxes, size)]

    def boxes(self, scene: Scene) -> Found:
        """Boxes of the scene's tags."""
        detector = self.ground.detector
        asked = [tag for tag in scene.tags if tag not in self.ground.options.non_object_tags]
        prompts = plan_prompts(asked, detector.tokens, detector.max_text_len)
        picture = Image.fromarray(scene.pixels)
        raws = detector.detect([picture] * len(prompts), [prompt.ids for prompt in prompts], 1)
        return self.ground.choose(*picture.size, list(zip(prompts, raws, strict=True)))

    def captions(self, pictures: Sequence[Image.Image], size: int = BATCH) -> list[str]:
        """A caption per picture."""
        options = self.caption.options.model_dump()
        return [one.text for one in self.caption.captioner.captions(pictures, batch_size=size, **options)]

    def vectors(self, texts: Sequence[str], size: int = BATCH) -> Scores:
        """A vector per text."""
        return self.embed.encoder.vectors(texts, size)


def _opened(kind: type[Stage], models: ModelStore, dtype: str) -> Any:
    entry = load_catalog().model(kind.name).model_copy(update={"dtype": dtype})
    stage = kind(entry)
    stage.load(models, "cpu")
    return stage


def pictures_of(scenes: Sequence[Scene]) -> list[Image.Image]:
    """The pictures of scenes."""
    return [Image.fromarray(scene.pixels) for scene in scenes]


def crops_of(scenes: Sequence[Scene]) -> tuple[list[Image.Image], list[str]]:
    """Crops of all instances that are large enough, and what they show."""
    found = [
        (picture.crop(one.box), one.phrase)
        for scene, picture in zip(scenes, pictures_of(scenes), strict=True)
        for one in scene.instances
        if is_large_enough(one.box)
    ]
    return [crop for crop, _ in found], [phrase for _, phrase in found]


def tags(exact: Answers, rounded: Answers, scenes: Sequence[Scene]) -> list[Figure]:
    """Scores of tags, and the tags that are chosen by them."""
    pictures = pictures_of(scenes)
    one, other = exact.scores(pictures), rounded.scores(pictures)
    before, after = exact.tags(one), rounded.tags(other)
    truth = [set(scene.tags) for scene in scenes]
    every = sum(len(a | b) for a, b in zip(before, after, strict=True))
    changed = sum(len(a ^ b) for a, b in zip(before, after, strict=True))
    return _figures(
        "tags (RAM)",
        {
            "score, largest difference": f"{np.abs(one - other).max():.2g}",
            "score, mean difference": f"{np.abs(one - other).mean():.2g}",
            "tags that change": f"{changed} of {every} ({changed / every:.2%})",
            "F1 against the truth, float32; bfloat16": f"{_f1(truth, before):.4f}; {_f1(truth, after):.4f}",
        },
    )


def _f1(truth: Sequence[set[str]], said: Sequence[set[str]]) -> float:
    right = sum(len(a & b) for a, b in zip(truth, said, strict=True))
    return 2 * right / sum(len(a) + len(b) for a, b in zip(truth, said, strict=True))


def masks(exact: Answers, rounded: Answers, scenes: Sequence[Scene]) -> list[Figure]:
    """Masks of the true boxes."""
    one, other = (list(itertools.chain(*answers.masks(scenes))) for answers in (exact, rounded))
    truth = [instance.mask for scene in scenes for instance in scene.instances]
    between = [_iou(a, b) for a, b in zip(one, other, strict=True)]
    pixels = sum(int((a != b).sum()) for a, b in zip(one, other, strict=True)) / sum(mask.size for mask in one)
    right = [float(np.mean([_iou(a, b) for a, b in zip(truth, said, strict=True)])) for said in (one, other)]
    return _figures(
        "masks (SAM, bfloat16 encoder)",
        {
            "masks": str(len(one)),
            "IoU of the two, mean; least": f"{np.mean(between):.4f}; {min(between):.4f}",
            "pixels that change": f"{pixels:.4%}",
            "mean IoU with the truth, float32; bfloat16": f"{right[0]:.4f}; {right[1]:.4f}",
        },
    )


def _iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def captions(exact: Answers, rounded: Answers, scenes: Sequence[Scene]) -> list[Figure]:
    """Captions of crops, and their vectors."""
    crops, truth = crops_of(scenes)
    one, other = exact.captions(crops), rounded.captions(crops)
    equal = sum(a == b for a, b in zip(one, other, strict=True))
    right = [sum(a == b for a, b in zip(truth, said, strict=True)) / len(truth) for said in (one, other)]
    texts = sorted({*one, *truth})
    first, second = exact.vectors(texts), rounded.vectors(texts)
    cosines = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return [
        *_figures(
            "captions (BLIP-2)",
            {
                "equal": f"{equal} of {len(crops)} ({equal / len(crops):.1%})",
                "exact against the truth, float32; bfloat16": f"{right[0]:.4f}; {right[1]:.4f}",
            },
        ),
        *_figures("vectors (CLIP)", {"least cosine with float32": f"{cosines.min():.6f}"}),
    ]


def boxes(exact: Answers, scenes: Sequence[Scene]) -> list[Figure]:
    """Boxes in float32 against those of products in bfloat16, and against TF32 as far as it can be imitated."""
    figures = []
    before = [exact.boxes(scene) for scene in scenes]
    for name, way in (("products in bfloat16", in_bfloat16), ("products in TF32 (imitated)", in_tf32)):
        with way(exact.ground.detector.network):
            after = [exact.boxes(scene) for scene in scenes]
        count = sum(len(found.boxes) for found in before)
        lost = sum(_lost(a, b) for a, b in zip(before, after, strict=True))
        gained = sum(_lost(b, a) for a, b in zip(before, after, strict=True))
        figures.append(
            Figure("boxes (GroundingDINO)", name, f"{lost} of {count} boxes go ({lost / count:.2%}), {gained} come")
        )
    return figures


def _lost(found: Found, others: Found) -> int:
    """Boxes without one of the same label in nearly the same place."""
    lost = 0
    for box, label in zip(found.boxes, found.labels, strict=True):
        same = [index for index, known in enumerate(others.labels) if known == label]
        lost += not same or bool(iou(box, others.boxes[same]).max() < SAME_BOX)
    return lost


@contextlib.contextmanager
def in_bfloat16(_network: Any) -> Iterator[None]:
    """Matrix products in bfloat16, all else in float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


@contextlib.contextmanager
def in_tf32(network: nn.Module) -> Iterator[None]:
    """The inputs and weights of linear layers and convolutions rounded to TF32's ten bits of mantissa."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    weights = [layer.weight.data.clone() for layer in layers]
    hooks = [layer.register_forward_pre_hook(lambda _layer, given: (to_tf32(given[0]),)) for layer in layers]
    for layer in layers:
        layer.weight.data = to_tf32(layer.weight.data)
    try:
        yield
    finally:
        for layer, weight, hook in zip(layers, weights, hooks, strict=True):
            layer.weight.data = weight
            hook.remove()


def to_tf32(values: torch.Tensor) -> torch.Tensor:
    """Float32 numbers rounded to ten bits of mantissa."""
    return ((values.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def batches(rounded: Answers, scenes: Sequence[Scene]) -> list[Figure]:
    """What changes when a picture of a bfloat16 batch has another place, other mates, or a batch of another size."""
    pictures, (crops, _) = pictures_of(scenes), crops_of(scenes)
    asked: dict[str, tuple[Callable[[Any, int], Any], Sequence[Any]]] = {
        "tag scores": (rounded.scores, pictures),
        "masks": (rounded.masks, scenes),
        "captions": (rounded.captions, crops[: len(scenes)]),
    }
    figures = []
    for name, (ask, items) in asked.items():
        order = np.random.default_rng(0).permutation(len(items))
        first = list(ask(items, BATCH))
        mixed = dict(zip(order.tolist(), ask([items[index] for index in order], BATCH), strict=True))
        filled = list(ask(items[:1], BATCH))
        alone = list(ask(items, 1))
        differ = sum(not _equal(one, mixed[index]) for index, one in enumerate(first))
        differ += not _equal(first[0], filled[0])
        other = sum(not _equal(one, two) for one, two in zip(first, alone, strict=True))
        figures += _figures(
            "batches in bfloat16",
            {
                f"{name}, other order, mates or filling up": f"{differ} of {len(items) + 1} differ",
                f"{name}, batch of 1 instead of {BATCH}": f"{other} of {len(items)} differ{_size(first, alone)}",
            },
        )
    return figures


def _equal(one: Any, other: Any) -> bool:
    return one == other if isinstance(one, str) else bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _size(one: list[Any], other: list[Any]) -> str:
    """By how much, where that can be said."""
    if isinstance(one[0], str):
        return ""
    apart = [np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)) for a, b in zip(one, other, strict=True)]
    if isinstance(one[0], list):
        return f", {sum(a.sum() for a in apart) / sum(a.size for a in apart):.4%} of the pixels"
    return f", by {max(a.max() for a in apart):.2g} at most"


def _figures(group: str, values: dict[str, str]) -> list[Figure]:
    return [Figure(group, name, value) for name, value in values.items()]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    every = (numbered_scene("test", number) for number in itertools.count())
    scenes = list(itertools.islice((scene for scene in every if scene.instances), options.scenes))
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="groundlake-bench-") as name:
        models = ModelStore(LocalStore(Path(name) / "lake"), Path(name) / "cache")
        exact, rounded = Answers(models, "float32"), Answers(models, "bfloat16")
        steps: list[Callable[[], list[Figure]]] = [
            lambda: tags(exact, rounded, scenes),
            lambda: masks(exact, rounded, scenes),
            lambda: boxes(exact, scenes),
            lambda: captions(exact, rounded, scenes),
            lambda: batches(rounded, scenes),
        ]
        print(f"| {len(scenes)} scenes | figure | |\n|---|---|---|")
        for step in steps:
            for figure in step():
                figures.append(figure)
                print(f"| {figure.group} | {figure.name} | {figure.value} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


if __name__ == "__main__":
    main()
