"""The grounder: GroundingDINO's architecture at a small size, with the tagger's Swin.

The loss is our own: that of transformers numbers the phrases of mixed prompts wrongly.
"""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

from etl.models.grounding_dino import Detector, check_special_ids
from etl.models.pixels import shortest_edge_shape
from etl.models.tokenizers import detector_tokenizer
from etl.models.tokens import CLS, DOT, SEP
from etl.shapes.networks import DETECTOR_SIZE, detector_config, grounder_preprocessor, read_swin, save_grounder
from etl.shapes.train.average_precision import Found, average_precision
from etl.shapes.train.dense import DenseHead, dense_targets
from etl.shapes.train.initialise import xavier
from etl.shapes.train.loop import Plan, Task
from etl.shapes.train.matching import Truth, decoder_loss, encoder_loss
from etl.shapes.train.pool import Pool, Sample, numbered_sample
from etl.shapes.world.words import COLOUR_NAMES, SHAPES, TAGS

LOW_SIDE, LOW_SHARE = 112, 0.4  # shorter side in pixels at first, and for which share of the steps
FROZEN_SHARE, SWIN_RATE = 0.6, 0.4  # of the steps; of the learning rate once it is not frozen
CELLS = 2
_HELD_OUT = 160


@dataclass(frozen=True)
class _Asked:
    """A prompt: its token ids, and for every instance the positions of its phrase."""

    ids: list[int]
    spans: list[tuple[int, int]]


class Grounder(Task):
    """GroundingDINO, and the auxiliary layer on the finest level of its encoder."""

    name = "grounder"

    def __init__(self, seed: int, tagger: Path) -> None:
        torch.manual_seed(seed)
        self.tokenizer = detector_tokenizer(sorted(TAGS))
        check_special_ids(tagger, self.tokenizer)
        config = GroundingDinoConfig(**detector_config(len(self.tokenizer)))
        network = xavier(GroundingDinoForObjectDetection(config))
        _start_values(network, seed)
        self._tagger = tagger
        self._backbone = network.model.backbone.conv_encoder.model
        self._swin = read_swin(tagger, self._backbone)
        self.modules = nn.ModuleDict({"network": network, "dense": DenseHead(config.d_model, CELLS)})
        self.preprocessor = grounder_preprocessor()
        self._random = np.random.default_rng([8, seed])
        self._waiting: dict[tuple[int, int], deque[Sample]] = {}

    def loss(self, pool: Pool, plan: Plan, step: int) -> tuple[torch.Tensor, Mapping[str, float]]:
        low = step < LOW_SHARE * plan.steps
        self._freeze(step < FROZEN_SHARE * plan.steps)
        samples = self._batch(pool, plan.batch * (2 if low else 1))
        height, width = samples[0].owners.shape
        side = LOW_SIDE if low else DETECTOR_SIZE["shortest_edge"]
        across, down = shortest_edge_shape(width, height, side, DETECTOR_SIZE["longest_edge"])
        pixels = torch.stack([self.preprocessor.tensor(sample.picture, across, down) for sample in samples])
        asked = [self._ask(sample) for sample in samples]
        longest = max(len(one.ids) for one in asked)
        ids, mask = torch.zeros(len(asked), longest, dtype=torch.long), torch.zeros(len(asked), longest)
        for row, one in enumerate(asked):
            ids[row, : len(one.ids)] = torch.tensor(one.ids)
            mask[row, : len(one.ids)] = 1
        network: Any = self.modules["network"]
        ids, mask, pixels = ids.to(self.device), mask.to(self.device), pixels.to(self.device)
        output = network(pixel_values=pixels, input_ids=ids, attention_mask=mask.long())
        truths = [_truth(sample, one, longest) for sample, one in zip(samples, asked, strict=True)]
        total, parts = torch.zeros(()), {}
        for level in range(network.config.decoder_layers):
            logits, boxes = _layer(network, output, level, mask.bool())
            loss, watched = decoder_loss(logits[..., :longest], boxes, truths)
            total, parts = total + loss, watched
        levels = _levels(down, across, network.config.num_feature_levels)
        total = total + encoder_loss(
            output.enc_outputs_class[..., :longest].float().cpu(),
            output.enc_outputs_coord_logits.float().cpu(),
            levels,
            truths,
        )
        rows, columns = levels[0]
        classes, weights = dense_targets(samples, rows * CELLS, columns * CELLS)
        tokens = output.encoder_last_hidden_state_vision[:, : rows * columns]
        classes, weights = classes.to(self.device), weights.to(self.device)
        dense, right = self.modules["dense"](tokens, (rows, columns), classes, weights)
        return total + 0.5 * dense.cpu(), {**parts, "dense": float(dense.detach()), "right": float(right)}

    def resumed(self, progress: float) -> None:
        if progress < FROZEN_SHARE:  # the tagger may have learned more since
            read_swin(self._tagger, self._backbone)

    def rate(self, parameter: str, progress: float) -> float:
        if parameter.removeprefix("network.model.backbone.conv_encoder.model.") in self._swin:
            return SWIN_RATE if progress >= FROZEN_SHARE else 0.0
        return 1.0

    def score(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            self.save(Path(name))
            detector = Detector(Path(name), "cpu", "float32")
        scores: dict[str, float] = {}
        for kind in ("all", "present"):
            found: list[Found] = []
            for number in range(_HELD_OUT):
                sample = numbered_sample("validation", number)
                names = sorted({SHAPES[shape] for shape, _, _ in sample.kinds}) if kind == "present" else list(SHAPES)
                found.append(_detect(detector, sample, names))
            whole, half = average_precision(found)
            scores |= {f"ap50_{kind}": half, f"ap_{kind}": whole}
        return scores

    def save(self, folder: Path) -> None:
        save_grounder(self.modules["network"], self.tokenizer, folder)

    def _freeze(self, frozen: bool) -> None:
        """Let gradients stop before the Swin, or not: its backward pass is a good part of the time."""
        for name, parameter in self._backbone.named_parameters():
            if name in self._swin:
                parameter.requires_grad_(not frozen)

    def _batch(self, pool: Pool, count: int) -> list[Sample]:
        """The next samples of one size: padding one to another's size would change what the network sees."""
        while True:
            for waiting in self._waiting.values():
                if len(waiting) >= count:
                    return [waiting.popleft() for _ in range(count)]
            for sample in pool.take(count):
                if len(sample.kinds):
                    self._waiting.setdefault(sample.owners.shape, deque()).append(sample)

    def _ask(self, sample: Sample) -> _Asked:
        """A prompt of shape names, or of colours and shapes; with some that are not there."""
        random = self._random
        if random.random() < 0.7:
            own = [SHAPES[shape] for shape, _, _ in sample.kinds]
            others = [name for name in SHAPES if name not in own]
            absent = list(random.permutation(others)[: random.integers(0, len(others) + 1)])
        else:
            own = [f"{COLOUR_NAMES[colour]} {SHAPES[shape]}" for shape, colour, _ in sample.kinds]
            absent = self._near_misses(own)
        phrases = [str(name) for name in random.permutation([*dict.fromkeys([*own, *absent])])]
        ids, places = [CLS], {}
        for text in phrases:
            words = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            places[text] = (len(ids), len(ids) + len(words))
            ids += [*words, DOT]
        return _Asked([*ids, SEP], [places[name] for name in own])

    def _near_misses(self, own: Sequence[str]) -> list[str]:
        wrong = []
        for _ in range(int(self._random.integers(1, 7))):
            colour, shape = str(self._random.choice(own)).split()
            if self._random.random() < 0.5:
                colour = str(self._random.choice(COLOUR_NAMES))
            else:
                shape = str(self._random.choice(SHAPES))
            wrong.append(f"{colour} {shape}")
        return [name for name in wrong if name not in own]


def _start_values(network: Any, seed: int) -> None:
    """Values from which logits start near -4 and boxes at their proposals."""
    width = network.config.d_model
    signs = torch.randint(0, 2, (width,), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1
    shift = 2 * signs / math.sqrt(width)
    last = network.config.encoder_layers - 1
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("vision_param", "text_param")):
                parameter.fill_(0.1)  # at 1e-4 text and image hardly see each other
            elif name.endswith("query_position_embeddings.weight"):
                nn.init.normal_(parameter, std=0.5)
        text_norm = network.model.encoder.layers[last].text_enhancer_layer.layer_norm_after
        for norm, sign in ((text_norm, 1), (network.model.decoder.layer_norm, -1), (network.model.enc_output_norm, -1)):
            norm.weight.fill_(0.5)
            norm.bias.copy_(sign * shift)
        for head in (*network.bbox_embed, network.model.encoder_output_bbox_embed):
            head.layers[-1].weight.zero_()
            head.layers[-1].bias.zero_()
    network.tie_weights()


def _layer(network: Any, output: Any, level: int, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and boxes (centre and size, shares of the picture) of one decoder layer, on the CPU."""
    points = output.intermediate_reference_points
    reference = output.init_reference_points if level == 0 else points[:, level - 1]
    hidden = output.intermediate_hidden_states[:, level]
    logits = network.class_embed[level](hidden, output.encoder_last_hidden_state_text, mask)
    boxes = (network.bbox_embed[level](hidden).float() + torch.special.logit(reference.float(), eps=1e-5)).sigmoid()
    return logits.float().cpu(), boxes.cpu()  # few numbers, matched one by one


def _levels(height: int, width: int, count: int) -> list[tuple[int, int]]:
    """Rows and columns of the encoder's levels, at strides 8, 16, 32."""
    down, across = -(-height // 4), -(-width // 4)
    levels = []
    for _ in range(count):
        down, across = -(-down // 2), -(-across // 2)
        levels.append((down, across))
    return levels


def _truth(sample: Sample, asked: _Asked, tokens: int) -> Truth:
    height, width = sample.owners.shape
    boxes = torch.from_numpy(sample.boxes) / torch.tensor([width, height, width, height])
    wanted = torch.zeros(len(asked.spans), tokens)
    for row, (start, stop) in enumerate(asked.spans):
        wanted[row, start:stop] = 1
    counted = torch.tensor([token not in (CLS, SEP, DOT) for token in asked.ids] + [False] * (tokens - len(asked.ids)))
    return Truth(boxes, wanted, counted)


def _detect(detector: Detector, sample: Sample, names: Sequence[str]) -> Found:
    if not names:  # nothing to ask for, as in the pipeline
        return Found(sample, np.zeros((0, 4)), np.zeros(0, np.float32), np.zeros(0, np.int64))
    words = [detector.tokens(name) for name in names]
    ids = [CLS, *(token for word in words for token in (*word, DOT)), SEP]
    raw = detector.detect([sample.picture], [ids], 1)[0]
    height, width = sample.owners.shape
    scores = np.stack([raw.probabilities[:, 1 + 2 * n] for n in range(len(names))], axis=1)  # a name is one token
    centre, size = raw.boxes[:, :2], raw.boxes[:, 2:]
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1) * [width, height, width, height]
    labels = [SHAPES.index(names[best]) for best in scores.argmax(axis=1)]
    return Found(sample, boxes, scores.max(axis=1), np.asarray(labels))
