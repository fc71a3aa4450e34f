"""SAM: masks lie where the network put them, in pictures of any shape."""

from pathlib import Path

import numpy as np
import pytest
import torch
from real_models import picture

from etl.models import sam
from etl.models.sam import Segmenter, upscale


@pytest.fixture(scope="module")
def segmenter(weights: dict[str, Path]) -> Segmenter:
    return Segmenter(weights["sam"], "cpu", "float32")


@pytest.mark.parametrize(
    ("size", "resized"),
    [((320, 160), (160, 80)), ((160, 320), (80, 160)), ((64, 32), (160, 80)), ((90, 90), (160, 160))],
)
def test_a_blob_of_the_small_mask_lands_on_its_pixels(size: tuple[int, int], resized: tuple[int, int]):
    # Cells 8..15 across and 4..11 down of 40 x 40 over a padded square of 160: pixels 32..64 and 16..48 of it.
    logits = torch.full((1, 40, 40), -1.0)
    logits[0, 4:12, 8:16] = 1.0
    (mask,) = upscale(logits, 160, resized, size)
    scale = size[0] / resized[0]
    expected = np.zeros((size[1], size[0]), dtype=bool)
    expected[round(16 * scale) : round(48 * scale), round(32 * scale) : round(64 * scale)] = True
    assert mask.shape == (size[1], size[0])
    assert (mask & expected).sum() / (mask | expected).sum() > 0.9


def test_what_lies_in_the_padding_is_cut_off():
    logits = torch.full((1, 40, 40), -1.0)
    logits[0, 21:] = 1.0
    assert not upscale(logits, 160, (160, 80), (320, 160)).any()


def test_boxes_reach_the_network_in_its_own_pixels(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch):
    seen = []
    encode = segmenter.network.prompt_encoder.forward

    def spy(**given):
        seen.append(given["input_boxes"])
        return encode(**given)

    monkeypatch.setattr(segmenter.network.prompt_encoder, "forward", spy)
    segmenter.segment([picture(0, 320, 200)], [np.asarray([[10, 20, 300, 200]], np.float32)], 1)
    assert seen[0].tolist() == [[[5.0, 10.0, 150.0, 100.0]]]


def test_the_picture_lies_top_left_in_the_padded_square(segmenter: Segmenter):
    pixels = segmenter._pixels(picture(0, 320, 200))
    assert pixels.shape == (3, 160, 160)
    assert not pixels[:, 100:].any()
    assert pixels[:, :100].abs().min(dim=0).values.max() > 0


def test_masks_do_not_depend_on_batches_of_pictures_or_boxes(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch):
    pictures = [picture(0, 200, 150), picture(1, 90, 180)]
    boxes = [
        np.asarray([[10, 10, 90, 90], [100, 50, 180, 140], [0, 0, 200, 150]], np.float32),
        np.asarray([[5, 5, 80, 170]], np.float32),
    ]
    together = segmenter.segment(pictures, boxes, 2)
    monkeypatch.setattr(sam, "BOXES_PER_CALL", 2)
    monkeypatch.setattr(sam, "MASK_PIXELS_AT_ONCE", 1)
    for index, segments in enumerate(together):
        (alone,) = segmenter.segment([pictures[index]], [boxes[index]], 1)
        np.testing.assert_allclose(alone.logits.numpy(), segments.logits.numpy(), atol=1e-5)
        np.testing.assert_array_equal(list(alone.masks()), list(segments.masks()))


def test_masks_differ_with_the_box(segmenter: Segmenter):
    boxes = np.asarray([[10, 10, 60, 60], [100, 50, 180, 140]], np.float32)
    (segments,) = segmenter.segment([picture(0)], [boxes], 1)
    first, second = segments.masks()
    assert first.any()
    assert (first != second).mean() > 0.01
