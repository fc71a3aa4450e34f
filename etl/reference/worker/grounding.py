"""GroundingDINO by ``groundingdino``, one picture and prompt at a time.

Upstream's answers to a batch of different prompts are wrong: its masks of the text are in another order.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .frames import Arrays, Message
from .weights import State, network_of, read_sizes

CONFIGS = {96: "GroundingDINO_SwinT_OGC", 128: "GroundingDINO_SwinB_cfg"}  # by the width of Swin's first stage
# groundingdino/util/inference.py and demo/: the picture's sides after resizing, and its normalisation.
SIDES = (800, 1333)
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
PACKAGE = "groundingdino"
MODEL = f"{PACKAGE}.models.GroundingDINO"


class GroundingDino:
    """Boxes and token probabilities."""

    def __init__(self, folder: Path, device: str, seed: int | None) -> None:
        self.text = folder / "text" if (folder / "text").is_dir() else folder
        self.network = network_of(folder, device, seed, self._build)
        self.tokenizer, self.device = self.network.tokenizer, device
        self.network.transformer.enc_out_class_embed.register_forward_hook(self._keep)
        self.scores = torch.zeros(0)
        self.sides = tuple(read_sizes(folder).get("sides", SIDES))
        shapes = import_module(f"{PACKAGE}.datasets.transforms")
        resize = shapes.RandomResize(sizes=[self.sides[0]], max_size=self.sides[1])
        self.steps = shapes.Compose([resize, shapes.ToTensor(), shapes.Normalize(*IMAGENET)])

    def facts(self) -> dict[str, Any]:
        backbone = self.network.backbone[0]
        first = int(backbone.patch_embed.patch_size[0])
        strides = [first * 2 ** int(index) for index in backbone.out_indices]
        strides += [strides[-1] * 2**n for n in range(1, self.network.num_feature_levels - len(strides) + 1)]
        return {
            "max_text_len": int(self.network.max_text_len),
            "queries": int(self.network.num_queries),
            "strides": strides,
            "sides": list(self.sides),
        }

    def answer(self, asked: Message) -> Arrays:
        """Token ids of a text, the text of ids, or boxes of a picture."""
        if asked.header["do"] == "tokens":
            return {"ids": np.asarray(self.tokenizer(asked.header["text"])["input_ids"])[1:-1]}
        if asked.header["do"] == "text":
            return {"text": np.asarray(self.tokenizer.decode(asked.arrays["ids"].tolist()))}
        return self._detect(asked)

    def _detect(self, asked: Message) -> Arrays:
        """``boxes`` (centre, width and height as shares), ``probabilities`` per token of the prompt, and its ``ids``.

        The prompt is ``ids`` that the other side planned, else the header's ``prompt``, in upstream's own tokens. If
        asked for, also ``proposals``, the score of every feature cell, and ``chosen``, the cells that are gone on with.
        """
        pixels, _ = self.steps(Image.fromarray(asked.arrays["picture"]), None)
        given = asked.arrays.get("ids")
        prompt = asked.header.get("prompt", "")
        ids = self.tokenizer(prompt)["input_ids"] if given is None else given.tolist()
        self.network.tokenizer = self.tokenizer if given is None else _Given(ids)
        output = self.network(pixels[None].to(self.device), captions=[prompt])
        probabilities: Any = output["pred_logits"][0, :, : len(ids)].sigmoid()
        answer: Arrays = {"boxes": output["pred_boxes"][0], "probabilities": probabilities, "ids": np.asarray(ids)}
        if asked.header.get("proposals"):
            chosen: Any = torch.topk(self.scores, int(self.network.num_queries))[1]
            answer |= {"proposals": np.asarray(self.scores.cpu()), "chosen": np.asarray(chosen.cpu())}
        return answer

    def _keep(self, _module: Any, _given: Any, output: torch.Tensor) -> None:
        self.scores = output[0].max(-1)[0]

    def _build(self, sizes: dict[str, Any], state: State | None) -> Any:
        width = 96 if state is None else state["backbone.0.patch_embed.proj.weight"].shape[0]
        name = sizes.get("upstream", CONFIGS.get(width, CONFIGS[96]))
        path = f"{import_module(PACKAGE).__path__[0]}/config/{name}.py"
        args = import_module(f"{PACKAGE}.util.slconfig").SLConfig.fromfile(path)
        args.text_encoder_type, args.device, args.use_checkpoint = str(self.text), "cpu", False
        args.use_transformer_ckpt = False
        _untrained_bert()
        if "swin" in sizes:
            _other_sizes(args, sizes)
        return import_module(f"{PACKAGE}.models").build_model(args)


class _Given:
    """Stands for the tokenizer where the tokens are there already."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = torch.tensor([ids])

    def __call__(self, *_: Any, **__: Any) -> Any:
        zeros, ones = torch.zeros_like(self.ids), torch.ones_like(self.ids)
        content = {"input_ids": self.ids, "token_type_ids": zeros, "attention_mask": ones}
        return import_module("transformers").BatchEncoding(content)


def _untrained_bert() -> None:
    """BERT's weights come with the checkpoint; upstream would look for published ones first."""
    tokens: Any = import_module(f"{PACKAGE}.util.get_tokenlizer")
    bert = import_module("transformers")
    tokens.get_pretrained_language_model = lambda folder: bert.BertModel(bert.BertConfig.from_pretrained(folder))


def _other_sizes(args: Any, sizes: dict[str, Any]) -> None:
    backbone: Any = import_module(f"{MODEL}.backbone.backbone")
    swin = import_module(f"{MODEL}.backbone.swin_transformer").SwinTransformer
    small = sizes["swin"]
    backbone.build_swin_transformer = lambda _name, pretrain_img_size, **more: swin(pretrain_img_size, **small, **more)
    for name, value in sizes["config"].items():
        setattr(args, name, value)
