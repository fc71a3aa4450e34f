"""SAM-HQ: masks are what upstream's arithmetic gives, whatever this transformers makes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from real_models import picture
from sam_hq_arithmetic import decode
from transformers import SamHQConfig, SamHQModel

from etl.errors import ConfigurationError
from etl.models import sam_hq
from etl.models.sam_hq import Segmenter, check_library

SIZES = {
    "vision_config": {
        "image_size": 64,
        "patch_size": 8,
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "window_size": 3,
        "global_attn_indexes": [1, 3],
        "output_channels": 32,
        "num_pos_feats": 16,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": 64, "patch_size": 8},
    "mask_decoder_config": {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "mlp_dim": 48,
        "iou_head_hidden_dim": 32,
        "vit_dim": 24,
        "layer_norm_eps": 1e-5,
    },
}
BOXES = np.asarray([[5, 5, 80, 70], [20, 50, 90, 80], [0, 0, 128, 96]], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM-HQ with seeded random weights, large enough to matter."""
    folder = tmp_path_factory.mktemp("sam-hq")
    torch.manual_seed(0)
    network = SamHQModel(SamHQConfig(**SIZES))
    with torch.no_grad():
        for parameter in network.parameters():
            spread = 1 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.1
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    network.save_pretrained(folder)
    preprocessor = {"size": {"longest_edge": 64}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> Segmenter:
    return Segmenter(folder, "cpu", "float32")


@torch.inference_mode()
def reference(segmenter: Segmenter) -> tuple[torch.Tensor, torch.Tensor]:
    """What upstream's decoder says of the boxes; encoder and prompts are those of the library, which are right."""
    network = segmenter.network
    image, blocks = network.get_image_embeddings(segmenter._pixels([picture(0, 128, 96)]))
    boxes = torch.from_numpy(BOXES / 2)[:, None]
    sparse, dense = network.prompt_encoder(input_points=None, input_labels=None, input_boxes=boxes, input_masks=None)
    place = network.get_image_wide_positional_embeddings()
    weights = {name: value.double() for name, value in network.mask_decoder.state_dict().items()}
    given = (value.double() for value in (image, blocks[0], place, dense[:1], sparse[:, 0]))
    return decode(weights, *given, heads=2)


def test_masks_and_estimates_are_upstreams(segmenter: Segmenter):
    (ours,) = segmenter.segment([picture(0, 128, 96)], [BOXES], 1)
    logits, ious = reference(segmenter)
    scale = float(logits.abs().max())
    assert scale > 1
    np.testing.assert_allclose(ours.logits, logits, atol=3e-6 * scale)
    np.testing.assert_allclose(ours.ious, ious, atol=1e-5)


def test_the_librarys_own_masks_are_still_wrong(segmenter: Segmenter):
    # When this fails, transformers is corrected; the arithmetic of our own may then go.
    pixels = segmenter._pixels([picture(0, 128, 96)])
    with torch.inference_mode():
        theirs = segmenter.network(
            pixel_values=pixels, input_boxes=torch.from_numpy(BOXES / 2)[None], multimask_output=False
        )
    logits, _ = reference(segmenter)
    assert float((theirs.pred_masks[0, :, 0] - logits).abs().max()) > 0.1 * float(logits.abs().max())


def test_a_mask_is_the_same_to_the_last_bit_whatever_is_asked_beside_it(segmenter: Segmenter):
    pictures, boxes = [picture(0, 128, 96), picture(1, 60, 90)], [BOXES, BOXES[[1, 0, 1] * 4]]
    first, second = segmenter.segment(pictures, boxes, 2)
    for image, segments in enumerate((first, second)):
        for row, box in enumerate(boxes[image]):
            (alone,) = segmenter.segment([pictures[image]], [box[None]], 1)
            assert torch.equal(alone.logits[0], segments.logits[row])
            assert alone.ious[0] == segments.ious[row]


def test_in_bfloat16_only_the_encoder_is_reduced(folder: Path, segmenter: Segmenter):
    reduced = Segmenter(folder, "cpu", "bfloat16")
    assert reduced.network.vision_encoder.pos_embed.dtype == torch.bfloat16
    assert reduced.network.mask_decoder.hq_token.weight.dtype == torch.float32
    (ours,) = reduced.segment([picture(0, 128, 96)], [BOXES], 1)
    (exact,) = segmenter.segment([picture(0, 128, 96)], [BOXES], 1)
    np.testing.assert_allclose(ours.logits, exact.logits, atol=0.05 * float(exact.logits.abs().max()))


def test_a_library_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch):
    other = sam_hq.masks
    monkeypatch.setattr(sam_hq, "masks", lambda *given: (other(*given)[0] * 1.01, other(*given)[1]))
    check_library.cache_clear()
    with pytest.raises(ConfigurationError, match="computes something else"):
        check_library()


def test_a_library_whose_parts_have_other_names_is_refused(monkeypatch: pytest.MonkeyPatch):
    build = sam_hq.SamHQModel

    def renamed(config: SamHQConfig) -> SamHQModel:
        network = build(config)
        network.mask_decoder.renamed = network.mask_decoder.hq_mask_mlp
        del network.mask_decoder.hq_mask_mlp
        return network

    monkeypatch.setattr(sam_hq, "SamHQModel", renamed)
    check_library.cache_clear()
    with pytest.raises(ConfigurationError, match=r"built otherwise: .*hq_mask_mlp.*"):
        check_library()


def test_the_check_leaves_the_random_numbers_of_others_alone():
    check_library.cache_clear()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    check_library()
    assert torch.equal(torch.rand(3), expected)


def test_weights_of_plain_sam_are_refused(weights: dict[str, Path]):
    with pytest.raises(ConfigurationError, match="family 'sam-hq' needs 'sam_hq'"):
        Segmenter(weights["sam"], "cpu", "float32")
