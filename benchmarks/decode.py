"""What a scaled JPEG decode would gain and cost: ``.venv/bin/python benchmarks/decode.py``.

A JPEG can be decoded at a half, a quarter or an eighth of its size for less work (``Image.draft`` of Pillow); the
picture is then not quite the one that a full decode and a resize give. The first table is of speed: decoding with the
resize to a network's input, one thread, as a ratio to the full decode of the same run; the picture has grain, since a
smooth one takes fewer bits than a photograph. The second is of answers: those of the packaged networks to held-out
scenes, enlarged and saved as JPEG, against those to a full decode. A scaled decode is either the smallest that is no
smaller than the input, or the smallest that is at least twice the input.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from etl.lake.pixels import decode_upright
from etl.models.store import ModelStore
from etl.settings import load_catalog
from etl.shapes.world.scene import Scene
from etl.shapes.world.splits import numbered_scene
from etl.stages.boxes import iou
from etl.stages.device import use_allowed_cores
from etl.stages.ground import Found, GroundStage
from etl.stages.prompts import plan_prompts
from etl.stages.tag import TagStage
from etl.storage import LocalStore

SIDES = (640, 1280, 2560)  # longer sides of pictures, 4:3
INPUTS = {"BLIP-2": (224, 224), "RAM": (384, 384), "GroundingDINO": (1066, 800), "SAM": (1024, 768)}
SCENE = (200, 150)
QUALITY = 90
GRAIN = 5.0  # standard deviation of grey levels: about two bits per pixel, as photographs of this quality take
MARGINS = (1, 2)  # how many times the input a scaled picture is at least
SAME_BOX = 0.99  # IoU of two boxes that are the same

Decode = Callable[[bytes, tuple[int, int]], Image.Image]


def full(data: bytes, _: tuple[int, int]) -> Image.Image:
    """As the pipeline decodes."""
    return decode_upright(data)


def scaled(margin: int) -> Decode:
    """The smallest scale whose sides are ``margin`` times the input's at least."""

    def decode(data: bytes, size: tuple[int, int]) -> Image.Image:
        with Image.open(io.BytesIO(data)) as opened:
            opened.draft("RGB", (size[0] * margin, size[1] * margin))
            return opened.convert("RGB")

    return decode


def jpeg(scene: Scene, side: int, grain: float = 0.0) -> bytes:
    """A scene enlarged to a longer side, as JPEG."""
    size = side, side * SCENE[1] // SCENE[0]
    pixels = np.asarray(Image.fromarray(scene.pixels).resize(size, Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(0, grain, (*pixels.shape[:2], 1))
    content = io.BytesIO()
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def seconds(decode: Decode, data: bytes, size: tuple[int, int], repeats: int) -> float:
    """Median seconds of decoding and resizing to a network's input."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        decode(data, size).resize(size, Image.Resampling.BILINEAR)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def speed(scene: Scene, repeats: int) -> None:
    """Print how much faster a scaled decode is."""
    print("| picture | network's input | full decode, pictures/s | " + " | ".join(map(_heading, MARGINS)) + " |")
    print("|---|---|---|" + "---|" * len(MARGINS))
    for side in SIDES:
        data = jpeg(scene, side, GRAIN)
        for name, size in INPUTS.items():
            whole = seconds(full, data, size, repeats)
            cells = []
            for margin in MARGINS:
                scale = side / scaled(margin)(data, size).width
                faster = whole / seconds(scaled(margin), data, size, repeats)
                cells.append(f"{faster:.1f} x (1/{scale:.0f})" if scale > 1 else "not smaller")
            picture = f"{side} x {side * SCENE[1] // SCENE[0]}, {len(data) / 1000:.0f} kB"
            print(f"| {picture} | {name}, {size[0]} x {size[1]} | {1 / whole:.0f} | {' | '.join(cells)} |", flush=True)


def _heading(margin: int) -> str:
    return "scaled decode" if margin == 1 else f"at least {margin} x the input"


@dataclass
class Moved:
    """How far answers moved, over all scenes.

    Attributes:
        score: Largest difference of a tag's score, relative to the largest score.
        tags: Pictures whose tags differ.
        boxes: Boxes without one of the same label and an IoU of 0.99 at least.
        all_boxes: Boxes of the full decode.
        logits: Largest difference of a mask logit, relative to the largest.
        masks: Share of the small masks' pixels that change sides.
    """

    score: float = 0.0
    tags: int = 0
    boxes: int = 0
    all_boxes: int = 0
    logits: float = 0.0
    masks: float = 0.0


class Networks:
    """The packaged networks, and what they say of a picture."""

    def __init__(self, folder: Path) -> None:
        models = ModelStore(LocalStore(folder / "lake"), folder / "cache")
        self.tag, self.ground = TagStage(load_catalog().model("tag")), GroundStage(load_catalog().model("ground"))
        self.tag.load(models, "cpu")
        self.ground.load(models, "cpu")

    def scores(self, picture: Image.Image) -> Any:
        """Scores of all tags."""
        return self.tag.tagger.scores([picture])[0]

    def tags(self, scores: Any) -> set[str]:
        """The tags that the stage chooses."""
        return {tag["tag"] for tag in self.tag.choose(scores)}

    def boxes(self, picture: Image.Image, scene: Scene, size: tuple[int, int]) -> Found:
        """Boxes of the scene's tags, in the pixels of a picture of ``size``."""
        detector, options = self.ground.detector, self.ground.options
        tags = [tag for tag in scene.tags if tag not in options.non_object_tags]
        prompts = plan_prompts(tags, detector.tokens, detector.max_text_len)
        raws = detector.detect([picture] * len(prompts), [prompt.ids for prompt in prompts], 1)
        return self.ground.choose(*size, list(zip(prompts, raws, strict=True)))

    def logits(self, picture: Image.Image, scene: Scene) -> Any:
        """Mask logits of the scene's true boxes."""
        scale = picture.width / SCENE[0]
        boxes = np.asarray([one.box for one in scene.instances], np.float32) * np.float32(scale)
        return self.ground.segmenter.segment([picture], [boxes], 1)[0].logits.numpy()


def compare(networks: Networks, scenes: Sequence[Scene], side: int, margin: int) -> Moved:
    """Answers to scaled decodes against those to full ones; every network has the scaled decode of its own input."""
    moved, decode = Moved(), scaled(margin)
    tagger, detector, segmenter = ((160, 160), (213, 160), (160, 120))  # inputs of the packaged networks
    for scene in scenes:
        data = jpeg(scene, side)
        whole = full(data, (0, 0))
        one, other = networks.scores(whole), networks.scores(decode(data, tagger))
        moved.score = max(moved.score, float(np.abs(one - other).max() / one.max()))
        moved.tags += networks.tags(one) != networks.tags(other)
        found = networks.boxes(whole, scene, whole.size)
        moved.boxes += _lost(found, networks.boxes(decode(data, detector), scene, whole.size))
        moved.all_boxes += len(found.boxes)
        one, other = networks.logits(whole, scene), networks.logits(decode(data, segmenter), scene)
        moved.logits = max(moved.logits, float(np.abs(one - other).max() / np.abs(one).max()))
        moved.masks += float(((one > 0) != (other > 0)).mean()) / len(scenes)
    return moved


def _lost(found: Found, others: Found) -> int:
    """Boxes without a counterpart."""
    lost = 0
    for box, label in zip(found.boxes, found.labels, strict=True):
        same = [index for index, known in enumerate(others.labels) if known == label]
        lost += not same or iou(box, others.boxes[same]).max() < SAME_BOX
    return lost


def answers(count: int) -> None:
    """Print how far the answers of the packaged networks move."""
    scenes = [numbered_scene("test", number, size=SCENE, count=4) for number in range(count)]
    print("| picture | decode | tag scores, relative | pictures with other tags | boxes that moved | "
          "mask logits, relative | mask pixels |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="groundlake-bench-") as name:
        networks = Networks(Path(name))
        for side in SIDES:
            for margin in MARGINS:
                moved = compare(networks, scenes, side, margin)
                print(
                    f"| {side} x {side * SCENE[1] // SCENE[0]} | {_heading(margin)} | {moved.score:.1g} | "
                    f"{moved.tags} of {count} | {moved.boxes} of {moved.all_boxes} | {moved.logits:.1g} | "
                    f"{moved.masks:.3%} |",
                    flush=True,
                )


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="decodes of which the median is taken")
    parser.add_argument("--scenes", type=int, default=20, help="scenes whose answers are compared")
    options = parser.parse_args()
    use_allowed_cores()
    speed(numbered_scene("test", 0, size=SCENE, count=4), options.repeats)
    print()
    answers(options.scenes)


if __name__ == "__main__":
    main()
