"""One question to one of upstream's packages: ``python -I worker.py FOLDER``, run by the reference interpreter.

FOLDER holds ``job.json`` and ``pictures.npz``; the answer is ``answer.npz`` beside them. Nothing of groundlake is
imported here: what this file computes with is upstream's code, torch and numpy only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

Answer = dict[str, Any]
PIXEL_MEAN, PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SAM_NAMES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}  # by the width of the encoder
DINO_CONFIGS = {96: "GroundingDINO_SwinT_OGC", 128: "GroundingDINO_SwinB_cfg"}  # by the width of Swin's first stage
# groundingdino/util/inference.py and demo/: the picture's sides after resizing, and its normalisation.
DINO_SIDES = {"sizes": [800], "max_size": 1333}
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def main(folder: Path) -> None:
    """Answer the question in a folder."""
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "pictures.npz") as file:
        pictures = [file[f"picture{index}"] for index in range(job["pictures"])]
    torch.set_num_threads(1)
    build, ask = FAMILIES[job["family"]]
    checkpoint = Path(job["checkpoint"])
    if job["sizes"] is None:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network = load(build(job, state.get("model", state)), state.get("model", state))
    else:
        network = shaken(build(job, None), job["seed"])
        torch.save(network.state_dict(), checkpoint)
    with torch.no_grad():
        answers = [ask(network.eval(), job, index, picture) for index, picture in enumerate(pictures)]
    flat: dict[str, Any] = {}
    for index, answer in enumerate(answers):
        flat |= {f"{name}{index}": np.asarray(value) for name, value in answer.items()}
    np.savez(folder / "answer.npz", **flat)


def shaken(network: Any, seed: int) -> Any:
    """The network with every parameter random: zeros and ones of its initialisation would hide differences."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            noise = torch.randn(parameter.shape, generator=random)
            if parameter.dim() > 1:
                parameter.copy_(noise / max(1.0, parameter[0].numel()) ** 0.5)
            else:
                parameter.copy_(noise * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return network


def load(network: Any, state: dict[str, torch.Tensor]) -> Any:
    """The network with a checkpoint's tensors; it must have every one that the network needs."""
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    missing = [key for key in network.load_state_dict(state, strict=False).missing_keys if "position_ids" not in key]
    if missing:
        raise SystemExit(f"the checkpoint lacks {len(missing)} tensors that upstream needs: {', '.join(missing[:5])}")
    return network


def build_sam(package: str, job: dict[str, Any], state: dict[str, torch.Tensor] | None) -> Any:
    """SAM or SAM-HQ: upstream's own sizes for a checkpoint, else those of the job."""
    if state is not None:
        width = state["image_encoder.patch_embed.proj.weight"].shape[0]
        return import_module(package).sam_model_registry[SAM_NAMES[width]]()
    parts, sizes = import_module(f"{package}.modeling"), job["sizes"]
    grid, channels = sizes["side"] // sizes["patch"], sizes["channels"]
    encoder = parts.ImageEncoderViT(
        img_size=sizes["side"],
        patch_size=sizes["patch"],
        embed_dim=sizes["width"],
        depth=sizes["depth"],
        num_heads=sizes["heads"],
        window_size=sizes["window"],
        global_attn_indexes=sizes["global"],
        out_chans=channels,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        qkv_bias=True,
        use_rel_pos=True,
    )
    prompts = parts.PromptEncoder(
        embed_dim=channels,
        image_embedding_size=(grid, grid),
        input_image_size=(sizes["side"], sizes["side"]),
        mask_in_chans=16,
    )
    two_way = parts.TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=sizes["decoder_mlp"], num_heads=8)
    hq = {"vit_dim": sizes["width"]} if package == "segment_anything_hq" else {}
    decoder = (parts.MaskDecoderHQ if hq else parts.MaskDecoder)(
        num_multimask_outputs=3,
        transformer=two_way,
        transformer_dim=channels,
        iou_head_depth=3,
        iou_head_hidden_dim=sizes["iou_width"],
        **hq,
    )
    return parts.Sam(encoder, prompts, decoder, pixel_mean=PIXEL_MEAN, pixel_std=PIXEL_STD)


def ask_sam(package: str, network: Any, job: dict[str, Any], index: int, picture: Any) -> Answer:
    """One mask per box, box after box; ``full`` are its logits at the picture's size, above 0 in the mask."""
    predictor = import_module(package).SamPredictor(network)
    predictor.set_image(picture)
    boxes = [np.asarray(box) for box in job["boxes"][index]]
    found = [predictor.predict(box=box, multimask_output=False, return_logits=True) for box in boxes]
    full, ious, logits = zip(*found, strict=True)
    return {
        "full": np.concatenate(full),
        "ious": np.concatenate(ious),
        "logits": np.concatenate(logits),
    }


def build_groundingdino(job: dict[str, Any], state: dict[str, torch.Tensor] | None) -> Any:
    """GroundingDINO: upstream's own configuration for a checkpoint, else that of Swin-T with the job's sizes."""
    models = import_module("groundingdino.models")
    configuration = import_module("groundingdino.util.slconfig").SLConfig
    module = "groundingdino.models.GroundingDINO"
    tokens: Any = import_module("groundingdino.util.get_tokenlizer")
    bert = import_module("transformers")
    config = import_module("groundingdino").__path__[0] + "/config/{}.py"
    first = "backbone.0.patch_embed.proj.weight"
    width = 96
    if state is not None:
        width = state[first if first in state else f"module.{first}"].shape[0]
    args = configuration.fromfile(config.format(DINO_CONFIGS[width]))
    args.text_encoder_type, args.device, args.use_checkpoint = job["text"], "cpu", False
    args.use_transformer_ckpt = False
    # Its weights come with the checkpoint; upstream would look for published ones first.
    tokens.get_pretrained_language_model = lambda folder: bert.BertModel(bert.BertConfig.from_pretrained(folder))
    if state is None:
        backbone: Any = import_module(f"{module}.backbone.backbone")
        swin = import_module(f"{module}.backbone.swin_transformer").SwinTransformer
        small = job["sizes"]["swin"]
        backbone.build_swin_transformer = lambda _name, pretrain_img_size, **kw: swin(pretrain_img_size, **small, **kw)
        for name, value in job["sizes"]["config"].items():
            setattr(args, name, value)
    return models.build_model(args)


def ask_groundingdino(network: Any, job: dict[str, Any], index: int, picture: Any) -> Answer:
    """Boxes (centre, width and height as shares) and probabilities per token of the prompt."""
    transforms = import_module("groundingdino.datasets.transforms")
    resize = transforms.RandomResize(**(job["sides"] or DINO_SIDES))
    steps = transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize(*IMAGENET)])
    pixels, _ = steps(Image.fromarray(picture), None)
    prompt = job["prompts"][index]
    output = network(pixels[None], captions=[prompt])
    ids = network.tokenizer(prompt)["input_ids"]
    probabilities = output["pred_logits"][0, :, : len(ids)].sigmoid()
    return {"boxes": output["pred_boxes"][0], "probabilities": probabilities, "ids": ids}


FAMILIES: dict[str, tuple[Callable[..., Any], Callable[..., Answer]]] = {
    "sam": (partial(build_sam, "segment_anything"), partial(ask_sam, "segment_anything")),
    "sam-hq": (partial(build_sam, "segment_anything_hq"), partial(ask_sam, "segment_anything_hq")),
    "groundingdino": (build_groundingdino, ask_groundingdino),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
