"""Errors that look like success, planted one at a time: each must cost more than the scores may fall.

A dozen stored scenes go through the real stages with the shipped networks; the scores are taken against the scenes as
they were drawn. The networks are right about these scenes, so that what is lost is lost by the planted error. Whoever
breaks a convention between two parts, in any of these ways, gets a red end-to-end test.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scene_replay import Replay
from scene_scores import scene_scores, too_low

from etl.lake import pixels
from etl.shapes.files.site import write_scenes
from etl.shapes.world.scene import Scene
from etl.stages import caption, ground
from etl.stages.boxes import to_pixels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SCENES = (57, 63, 67, 73, 75, 76, 70, 170, 190, 260, 380, 400)  # of split test; the last six are stored turned
Stored = list[tuple[Scene, bytes]]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return Replay(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    written = write_scenes(tmp_path_factory.mktemp("scenes"), "http://scenes", SCENES)
    return [(scene, path.read_bytes()) for _, scene, path in written]


def costs(replay: Replay, stored: Stored) -> set[str]:
    """The scores that are too low."""
    return set(too_low(scene_scores(replay.see(stored))))


def test_without_an_error_nothing_is_too_low(replay: Replay, stored: Stored) -> None:
    scores = scene_scores(replay.see(stored))
    assert not too_low(scores), scores


def test_x_and_y_swapped(replay: Replay, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(boxes: Any, width: int, height: int) -> Any:
        return to_pixels(boxes[:, [1, 0, 3, 2]], width, height)

    monkeypatch.setattr(ground, "to_pixels", swapped)
    assert {"ap50", "ap"} <= costs(replay, stored)


def test_boxes_off_by_the_resize_factor_of_the_detector(
    replay: Replay, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = replay.stages["ground"].detector  # type: ignore[attr-defined]

    def scaled(boxes: Any, width: int, height: int) -> Any:
        across, down = detector.shape(width, height)
        resized = to_pixels(boxes, across, down)  # pixels of the network, taken for the picture's
        return np.clip(resized, 0, [width, height, width, height])

    monkeypatch.setattr(ground, "to_pixels", scaled)
    assert {"ap50", "ap"} <= costs(replay, stored)


def test_masks_in_row_order(replay: Replay, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = ground.encode

    def row_order(mask: Any) -> Any:
        return encode(np.reshape(np.ascontiguousarray(mask).ravel(order="C"), mask.shape, order="F"))

    monkeypatch.setattr(ground, "encode", row_order)
    assert "mask_iou" in costs(replay, stored)


def test_exif_orientation_ignored(replay: Replay, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = [one for one in stored if Image.open(io.BytesIO(one[1])).getexif().get(0x0112, 1) != 1]
    assert len(turned) == 6
    assert not {"ap50", "mask_iou"} & costs(replay, turned)
    monkeypatch.setattr(pixels.ImageOps, "exif_transpose", lambda picture: picture)
    assert {"ap50", "ap"} <= costs(replay, turned)


def test_tags_off_by_one(replay: Replay, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = replay.stages["tag"].tagger  # type: ignore[attr-defined]
    monkeypatch.setattr(tagger, "tags", [*tagger.tags[1:], tagger.tags[0]])
    assert "tag_f1" in costs(replay, stored)


def test_captions_of_another_instance(replay: Replay, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    crops_of = caption.crops_of

    def rolled(item: Any, picture: Any) -> Any:
        (whole, *crops) = crops_of(item, picture)
        names = [name for name, _ in crops]
        return [whole, *zip([*names[1:], *names[:1]], [crop for _, crop in crops], strict=True)]

    monkeypatch.setattr(caption, "crops_of", rolled)
    assert "caption_exact" in costs(replay, stored)
