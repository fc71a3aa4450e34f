"""SAM: masks lie where the network put them, in pictures of any shape."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_models import picture

from etl.models import sam
from etl.models.sam import Segmenter, Segments, upscale


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
    (pixels,) = segmenter._pixels([picture(0, 320, 200)])
    assert pixels.shape == (3, 160, 160)
    assert not pixels[:, 100:].any()
    assert pixels[:, :100].abs().min(dim=0).values.max() > 0


PICTURES = [picture(0, 200, 150), picture(1, 90, 180), picture(2, 160, 160)]
BOXES = np.asarray(
    [[10, 10, 80, 90], [20, 50, 90, 140], [0, 0, 90, 150], [5, 5, 60, 30], [30.5, 12.25, 31.5, 13.25]], np.float32
)


@pytest.fixture(scope="module")
def alone(segmenter: Segmenter) -> dict[tuple[int, int], Segments]:
    """What every box of every picture gives when nothing else is asked."""
    return {
        (image, box): segmenter.segment([PICTURES[image]], [BOXES[box : box + 1]], 1)[0]
        for image in range(len(PICTURES))
        for box in range(len(BOXES))
    }


MATES = st.tuples(st.integers(0, len(PICTURES) - 1), st.lists(st.integers(0, len(BOXES) - 1), max_size=20))


@settings(deadline=None, max_examples=8)
@given(asked=st.lists(MATES, max_size=4), batch_size=st.integers(1, 5))
def test_a_mask_is_the_same_to_the_last_bit_whatever_is_asked_beside_it(
    segmenter: Segmenter,
    alone: dict[tuple[int, int], Segments],
    asked: list[tuple[int, list[int]]],
    batch_size: int,
):
    answers = segmenter.segment([PICTURES[image] for image, _ in asked], [BOXES[own] for _, own in asked], batch_size)
    for (image, own), segments in zip(asked, answers, strict=True):
        assert len(list(segments.masks())) == len(segments.logits) == len(segments.ious) == len(own)
        for row, box in enumerate(own):
            assert torch.equal(segments.logits[row], alone[image, box].logits[0])
            assert segments.ious[row] == alone[image, box].ious[0]


def test_upsampled_masks_do_not_depend_on_how_many_fit_into_memory(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
):
    (segments,) = segmenter.segment([PICTURES[0]], [BOXES], 1)
    together = list(segments.masks())
    monkeypatch.setattr(sam, "MASK_PIXELS_AT_ONCE", 1)
    np.testing.assert_array_equal(list(segments.masks()), together)


def test_a_small_pictures_masks_pass_through_the_padded_square_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    monkeypatch.setattr(sam, "MASK_PIXELS_AT_ONCE", 3 * 160 * 160)
    monkeypatch.setattr(sam, "upscale", lambda logits, *_: asked.append(len(logits)) or [None] * len(logits))
    segments = Segments(torch.zeros(8, 40, 40), np.zeros(8, np.float32), (10, 8), (160, 128), 160)
    assert len(list(segments.masks())) == 8
    assert asked == [3, 3, 2]


def test_three_hundred_boxes_are_all_answered(segmenter: Segmenter, alone: dict[tuple[int, int], Segments]):
    (segments,) = segmenter.segment([PICTURES[0]], [np.tile(BOXES, (60, 1))], 1)
    assert len(segments.ious) == 300
    expected = torch.cat([alone[0, box].logits for box in range(len(BOXES))] * 60)
    assert torch.equal(segments.logits, expected)


@pytest.mark.parametrize("count", [1, 8, 300])
def test_on_a_gpu_calls_of_one_shape_take_the_boxes_of_several_pictures(
    segmenter: Segmenter, alone: dict[tuple[int, int], Segments], monkeypatch: pytest.MonkeyPatch, count: int
):
    monkeypatch.setattr(sam, "steady_size", lambda size, *_: size)
    monkeypatch.setattr(sam, "BOXES_PER_CALL", 8)
    shapes, decode = [], segmenter.network.mask_decoder.forward

    def spy(**given: torch.Tensor):
        shapes.append(tuple(given["image_embeddings"].shape))
        return decode(**given)

    monkeypatch.setattr(segmenter.network.mask_decoder, "forward", spy)
    own = [np.resize(BOXES, (count, 4)), BOXES[:2]]
    answers = segmenter.segment(PICTURES[:2], own, 2)
    assert shapes == [(8, 64, 20, 20)] * -(-(count + 2) // 8)
    for image, segments in enumerate(answers):
        assert len(segments.logits) == len(own[image])
        for row in (0, -1):
            expected = alone[image, (len(own[image]) + row) % len(own[image]) % len(BOXES)]
            np.testing.assert_allclose(segments.logits[row], expected.logits[0], atol=5e-5)
            np.testing.assert_allclose(segments.ious[row], expected.ious[0], atol=1e-5)


def test_pictures_without_boxes_are_not_even_encoded(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segmenter, "_encode", None)
    answers = segmenter.segment(PICTURES, [np.empty((0, 4), np.float32)] * 3, 2)
    assert [(list(one.masks()), len(one.logits), len(one.ious)) for one in answers] == [([], 0, 0)] * 3


def test_in_bfloat16_only_the_encoder_is_reduced(weights: dict[str, Path]):
    reduced = Segmenter(weights["sam"], "cpu", "bfloat16")
    dtypes = {name.partition(".")[0]: value.dtype for name, value in reduced.network.state_dict().items()}
    assert dtypes.pop("vision_encoder") == torch.bfloat16
    assert set(dtypes.values()) == {torch.float32}
    ours = reduced.segment(PICTURES, [BOXES[:4]] * 3, 2)
    exact = Segmenter(weights["sam"], "cpu", "float32").segment(PICTURES, [BOXES[:4]] * 3, 2)
    for one, other in zip(ours, exact, strict=True):
        first, second = np.stack(list(one.masks())), np.stack(list(other.masks()))
        assert (first != second).mean() < 0.005
        np.testing.assert_allclose(one.ious, other.ious, atol=0.02)


def test_masks_differ_with_the_box(segmenter: Segmenter):
    boxes = np.asarray([[10, 10, 60, 60], [100, 50, 180, 140]], np.float32)
    (segments,) = segmenter.segment([picture(0)], [boxes], 1)
    first, second = segments.masks()
    assert first.any()
    assert (first != second).mean() > 0.01
