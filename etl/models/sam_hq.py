"""SAM-HQ, a segmenter: SAM with a further mask token that reads features of the encoder's first global block.

The forward of transformers' mask decoder is not used: from 4.54 to 5.23 at least it throws away the image features that
its transformer attended, and upsamples the unattended ones, transposed. Its parameters are right, so the masks are
computed here from them, by upstream's formulas (SysCV/sam-hq, mask_decoder_hq.py, revision fb181f8). What is asked for
is what the source pipelines ask for: ``multimask_output=False``, and upstream's default ``hq_token_only=False``, which
adds the logits of the single-mask token and of the HQ token.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from torch import nn
from transformers import SamHQConfig, SamHQModel

from etl.errors import ConfigurationError
from etl.models import sam
from etl.models.sam import Features

TOLERANCE = 1e-4  # far above rounding (4e-8), far below what the known defect changes (0.1)
SINGLE_MASK = 1  # position of the token of the single mask; the IoU token is before it, three of multiple masks behind


class Segmenter(sam.Segmenter):
    """SAM-HQ ready for inference."""

    family: ClassVar[str] = "sam-hq"
    network_class: ClassVar[Any] = SamHQModel

    def __init__(
        self, folder: Path, device: str, dtype: str, *, attention: str = "sdpa", compiled: bool = False
    ) -> None:
        """Read a folder of weights; the arguments are those of ``etl.models.sam.Segmenter``.

        Raises:
            ConfigurationError: The folder is wrong or not whole, or this transformers is not one that is known.
        """
        check_library()
        super().__init__(folder, device, dtype, attention=attention, compiled=compiled)

    def _features(self, pixels: torch.Tensor) -> Features:
        image, blocks = self.network.get_image_embeddings(pixels)
        image = image.float()
        return Features(image, fine_features(self.network.mask_decoder, image, blocks[0].float()))

    def _masks(self, features: Features, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sparse, dense = self.network.prompt_encoder(
            input_points=None, input_labels=None, input_boxes=boxes[:, None], input_masks=None
        )
        place = self.network.get_image_wide_positional_embeddings().expand_as(features.image)
        return masks(self.network.mask_decoder, features, place, sparse[:, 0], dense)


def fine_features(decoder: Any, image: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """What the HQ token's mask is made of besides the attended features; the same for every box of a picture.

    Args:
        decoder: transformers' mask decoder.
        image: Image embeddings [pictures, channels, height, width].
        block: Output of the encoder's first global block [pictures, height, width, width of the encoder].

    Returns:
        [pictures, channels / 8, 4 height, 4 width].
    """
    act = nn.functional.gelu
    own = decoder.encoder_conv2(act(decoder.encoder_norm(decoder.encoder_conv1(image))))
    early = decoder.compress_vit_conv1(block.permute(0, 3, 1, 2))
    result: torch.Tensor = own + decoder.compress_vit_conv2(act(decoder.compress_vit_norm(early)))
    return result


def masks(
    decoder: Any, features: Features, place: torch.Tensor, prompt: torch.Tensor, dense: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mask of every prompt.

    Args:
        decoder: transformers' mask decoder.
        features: One row per prompt.
        place: Positional embeddings of the image, as large as ``features.image``.
        prompt: Tokens of the prompts [rows, tokens, channels].
        dense: Embedded mask prompts, as large as ``features.image``.

    Returns:
        Logits [rows, 4 height, 4 width] and the network's own estimates of their IoU [rows].
    """
    act = nn.functional.gelu
    learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, decoder.hq_token.weight])
    answers, image = decoder.transformer(
        point_embeddings=torch.cat([learned.expand(len(prompt), -1, -1), prompt], dim=1)[:, None],
        image_embeddings=features.image + dense,
        image_positional_embeddings=place,
        attention_similarity=None,
    )
    attended = image[:, 0].transpose(1, 2).reshape(features.image.shape)
    coarse = act(decoder.upscale_conv2(act(decoder.upscale_layer_norm(decoder.upscale_conv1(attended)))))
    fine = decoder.mask_conv2(act(decoder.mask_norm(decoder.mask_conv1(coarse)))) + features.fine
    single = decoder.output_hypernetworks_mlps[0](answers[:, 0, SINGLE_MASK])
    high = decoder.hq_mask_mlp(answers[:, 0, len(learned) - 1])
    logits = _weighted(single, coarse) + _weighted(high, fine)
    return logits, decoder.iou_prediction_head(answers[:, 0, 0])[:, 0]


def _weighted(weights: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Sums [rows, height, width] of maps [rows, channels, height, width], weighted by [rows, channels]."""
    return (weights[:, None] @ maps.flatten(2)).reshape(len(maps), *maps.shape[-2:])


@cache
def check_library() -> None:
    """Make sure that this transformers has the parts that ``masks`` is built on, and that they mean what they did.

    A small random decoder answers once by ``masks`` and once by its own ``forward``, into which the attended image
    features are put back where they belong. That changes nothing once the library is corrected.

    Raises:
        ConfigurationError: The parts have other names, or compute something else.
    """
    try:
        difference = _difference()
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise _unknown(f"its mask decoder is built otherwise: {error}") from error
    if not difference < TOLERANCE:
        raise _unknown(f"its mask decoder computes something else: logits differ by {difference:.1g} of their size")


def _unknown(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"SAM-HQ does not run on transformers {transformers.__version__}: {why}",
        remedy="install the release of transformers that the lock file names, or take a network of the family sam",
    )


@torch.inference_mode()
def _difference() -> float:
    """How far a small decoder's logits by ``masks`` are from the library's, put right; as a share of the largest."""
    small = {"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 16, "iou_head_hidden_dim": 16, "vit_dim": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SamHQModel(
            SamHQConfig(
                vision_config={"hidden_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1, "image_size": 32},
                prompt_encoder_config={"hidden_size": 16, "image_size": 32},
                mask_decoder_config=small,
            )
        )
        decoder = network.mask_decoder.eval()
        for parameter in decoder.parameters():
            parameter.normal_(std=0.3)
        image, dense, place = torch.randn(3, 2, 16, 3, 2)
        block, prompt = torch.randn(2, 3, 2, 8), torch.randn(2, 2, 16)
    ours, _ = masks(decoder, Features(image, fine_features(decoder, image, block)), place, prompt, dense)
    attended: list[torch.Tensor] = []
    stash = decoder.transformer.register_forward_hook(lambda _module, _given, output: attended.append(output[1]))
    restore = decoder.upscale_conv1.register_forward_pre_hook(
        lambda _module, _given: (attended[0][:, 0].transpose(1, 2).reshape(image.shape),)
    )
    with stash, restore:
        theirs, _ = decoder(
            image_embeddings=image,
            image_positional_embeddings=place,
            sparse_prompt_embeddings=prompt[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=False,
            hq_token_only=False,
            intermediate_embeddings=[block],
        )
    return float((theirs[:, 0, 0] - ours).abs().max() / ours.abs().max())
