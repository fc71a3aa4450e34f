"""Losses of the grounder: which query answers for which instance, and how far it is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

CLASS, CORNERS, OVERLAP = 2.0, 5.0, 2.0  # weights of the losses, and of the costs of a match
BEST = 4  # tokens of the encoder that answer for one box


@dataclass(frozen=True)
class Truth:
    """What one picture and its prompt should give.

    Attributes:
        boxes: float [instances, 4], xyxy as shares of the picture.
        wanted: float [instances, tokens], 1 on the tokens of its phrase.
        counted: bool [tokens], the tokens that belong to a phrase.
    """

    boxes: torch.Tensor
    wanted: torch.Tensor
    counted: torch.Tensor


def decoder_loss(
    logits: torch.Tensor, boxes: torch.Tensor, truths: Sequence[Truth]
) -> tuple[torch.Tensor, dict[str, float]]:
    """One query per instance.

    Args:
        logits: [batch, queries, tokens]; -inf behind a prompt's end.
        boxes: [batch, queries, 4], centre and size as shares of the picture.
        truths: One per picture.
    """
    corners = to_corners(boxes)
    words = corner = overlap = logits.new_zeros(())
    instances, ious = 0, []
    for row, truth in enumerate(truths):
        queries, owners = _match(logits[row].detach(), boxes[row].detach(), corners[row].detach(), truth)
        found, wanted = corners[row][queries], truth.boxes[owners]
        iou, giou = paired_overlap(found, wanted)
        target = torch.zeros_like(logits[row])
        target[queries] = truth.wanted[owners] * iou.detach()[:, None]
        words = words + _word_loss(logits[row], target, truth)
        corner = corner + (boxes[row][queries] - to_centres(wanted)).abs().sum()
        overlap = overlap + (1 - giou).sum()
        instances += len(owners)
        ious += iou.detach().tolist()
    count = max(1, instances)
    loss = (CLASS * words + CORNERS * corner + OVERLAP * overlap) / count
    return loss, {"words": float(words.detach()) / count, "iou": sum(ious) / max(1, len(ious))}


def encoder_loss(
    logits: torch.Tensor, boxes: torch.Tensor, levels: Sequence[tuple[int, int]], truths: Sequence[Truth]
) -> torch.Tensor:
    """Several tokens of the encoder per instance: those inside its box that answer best already.

    Args:
        logits: [batch, places, tokens].
        boxes: [batch, places, 4], centre and size as logits; infinite where a place may not answer.
        levels: Rows and columns of the levels that the places belong to.
        truths: One per picture.
    """
    places = torch.cat([_centres(rows, columns) for rows, columns in levels])
    usable = torch.isfinite(boxes).all(dim=-1)
    centred = torch.where(usable[..., None], boxes, torch.zeros_like(boxes)).sigmoid()
    corners = to_corners(centred)
    total, instances = logits.new_zeros(()), 0
    for row, truth in enumerate(truths):
        chosen, owners, share = _best_places(logits[row].detach(), corners[row].detach(), usable[row], places, truth)
        iou, giou = paired_overlap(corners[row][chosen], truth.boxes[owners])
        target = torch.zeros_like(logits[row])
        target[chosen] = truth.wanted[owners] * (iou.detach() * share)[:, None]
        wanted = to_centres(truth.boxes[owners])
        words = _word_loss(logits[row], target, truth, usable[row])
        corner = ((centred[row][chosen] - wanted).abs().sum(dim=1) * share).sum()
        overlap = ((1 - giou) * share).sum()
        total = total + CLASS * words + CORNERS * corner + OVERLAP * overlap
        instances += len(truth.boxes)
    return total / max(1, instances) / 2


def _best_places(
    logits: torch.Tensor, corners: torch.Tensor, usable: torch.Tensor, places: torch.Tensor, truth: Truth
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places, the instance of each, and its share (1 for the best of an instance)."""
    scores = torch.sigmoid(torch.where(truth.counted, logits, torch.full_like(logits, -20.0)))
    said = scores @ truth.wanted.T / truth.wanted.sum(dim=1)  # [places, instances]
    iou, _ = overlap(corners, truth.boxes)
    middle, half = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2, (truth.boxes[:, 2:] - truth.boxes[:, :2]) / 2
    away = (places[:, None] - middle) / half.clamp(min=1e-3)
    inside = (away.abs() <= 1).all(dim=-1) & usable[:, None]
    quality = said.sqrt() * (iou + 0.05) ** 2 * torch.exp(-3 * (away**2).sum(dim=-1)) * inside
    best, where = quality.topk(min(BEST, len(quality)), dim=0)
    share = best / best[:1].clamp(min=1e-9)
    owners = torch.arange(len(truth.boxes)).expand_as(where)
    keep = best > 0
    chosen, owners, share = where[keep], owners[keep], share[keep]
    order = torch.argsort(share)  # of two instances that want one place, the one it suits better writes last
    return chosen[order], owners[order], share[order]


def _word_loss(
    logits: torch.Tensor, target: torch.Tensor, truth: Truth, usable: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy against the IoU on a phrase's tokens; easy negatives weigh little."""
    kept = truth.counted if usable is None else truth.counted & usable[:, None]
    safe = torch.where(kept, logits, torch.zeros_like(logits))
    weight = torch.where(target > 0, torch.ones_like(safe), 0.75 * torch.sigmoid(safe.detach()) ** 2)
    loss = functional.binary_cross_entropy_with_logits(safe, target, reduction="none") * weight
    return torch.where(kept, loss, torch.zeros_like(loss)).sum()


def _match(
    logits: torch.Tensor, boxes: torch.Tensor, corners: torch.Tensor, truth: Truth
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = torch.sigmoid(torch.where(truth.counted, logits, torch.full_like(logits, -20.0)))
    said = scores @ truth.wanted.T / truth.wanted.sum(dim=1)
    positive = 0.25 * (1 - said) ** 2 * -(said + 1e-8).log()
    negative = 0.75 * said**2 * -(1 - said + 1e-8).log()
    _, giou = overlap(corners, truth.boxes)
    apart = torch.cdist(boxes, to_centres(truth.boxes), p=1)
    cost = CLASS * (positive - negative) + CORNERS * apart - OVERLAP * giou
    queries, owners = linear_sum_assignment(cost.numpy())
    return torch.from_numpy(queries), torch.from_numpy(owners)


def _centres(rows: int, columns: int) -> torch.Tensor:
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def to_corners(boxes: torch.Tensor) -> torch.Tensor:
    """Centre and size to xyxy."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def to_centres(boxes: torch.Tensor) -> torch.Tensor:
    """Corners xyxy to centre and size."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def overlap(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """IoU and generalised IoU of all pairs of xyxy boxes: [n, m] each."""
    return _overlap(one[:, None], other[None])


def paired_overlap(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """IoU and generalised IoU of boxes one by one: [n] each."""
    return _overlap(one, other)


def _overlap(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    inner = _area(torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:]))
    outer = _area(torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:]))
    union = _area(one[..., :2], one[..., 2:]) + _area(other[..., :2], other[..., 2:]) - inner
    iou = inner / union.clamp(min=1e-9)
    return iou, iou - (outer - union) / outer.clamp(min=1e-9)


def _area(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (high - low).clamp(min=0).prod(dim=-1)
