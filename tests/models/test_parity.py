"""Our pre- and post-processing gives what transformers' own processors give, from the same files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from real_models import picture
from transformers import (
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    GroundingDinoImageProcessorPil,
    SamImageProcessorPil,
)

from etl.models.blip2 import Captioner
from etl.models.grounding_dino import Detector
from etl.models.ram import Tagger
from etl.models.sam import Segmenter, upscale

SIZES = [(200, 150), (150, 200), (48, 399), (97, 61)]


def noise(size: tuple[int, int]) -> Image.Image:
    """A picture that shows every difference of interpolation."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_the_detector_sees_what_its_processor_makes(weights: dict[str, Path], size: tuple[int, int]):
    detector = Detector(weights["groundingdino"], "cpu", "float32")
    processor = GroundingDinoImageProcessorPil.from_pretrained(weights["groundingdino"])
    expected = torch.as_tensor(np.asarray(processor(noise(size))["pixel_values"][0]))
    assert detector.shape(*size) == (expected.shape[2], expected.shape[1])
    torch.testing.assert_close(detector.preprocessor.tensor(noise(size), *detector.shape(*size)), expected)


@pytest.mark.parametrize("size", SIZES)
def test_the_segmenter_sees_and_answers_what_its_processor_makes(weights: dict[str, Path], size: tuple[int, int]):
    segmenter = Segmenter(weights["sam"], "cpu", "float32")
    processor = SamImageProcessorPil.from_pretrained(weights["sam"])
    made = processor(noise(size), return_tensors="pt")
    torch.testing.assert_close(segmenter._pixels([noise(size)])[0], made["pixel_values"][0])
    logits = torch.randn(2, 80, 80, generator=torch.Generator().manual_seed(0))
    (expected,) = processor.post_process_masks(
        [logits[:, None]], made["original_sizes"], made["reshaped_input_sizes"], mask_threshold=0.0
    )
    ours = upscale(logits, 160, segmenter._resized(size), size)
    np.testing.assert_array_equal(ours, np.asarray(expected)[:, 0])


@pytest.mark.parametrize(
    ("family", "network", "processor"),
    [("blip2", Captioner, BlipImageProcessorPil), ("ram", Tagger, CLIPImageProcessorPil)],
)
def test_squares_are_what_the_processors_make(weights: dict[str, Path], family: str, network, processor):
    theirs = processor.from_pretrained(weights[family], do_center_crop=False)
    pictures = [noise(size) for size in SIZES] + [picture(0)]
    expected = torch.stack([torch.as_tensor(np.asarray(theirs(one)["pixel_values"][0])) for one in pictures])
    torch.testing.assert_close(network(weights[family], "cpu", "float32").preprocessor.square(pictures), expected)
