"""The images that went worst on one page, truth and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from etl.errors import DataError
from etl.evaluate.captions import TOO_SMALL
from etl.evaluate.evaluation import Evaluation
from etl.evaluate.rows import Instance, Pair, Rows, Said
from etl.evaluate.worst import ImageScore
from etl.lake import Lake, Snapshot
from etl.viewer.draw import Drawn, draw, font, save_page, wrapped
from etl.viewer.pictures import decode, read_bytes

CELL, GAP, LINE, TEXT = 330, 14, 17, 13  # pixels
_PAIRS_PER_ROW = 2
_LINES = 9  # of text below a picture
_TOO_SMALL = " (only the label: too small)"
_OBJECTS_SHOWN = 12  # more would hide the picture
_INK, _GREY, _RED, _PAPER = (25, 25, 25), (110, 110, 110), (190, 30, 30), (255, 255, 255)
_IMAGES = """
    select image_id, tar, "offset", length from images where image_id in (select unnest(?::varchar[]))"""
Block = tuple[str, tuple[int, int, int]]


def draw_worst(lake: Lake, evaluation: Evaluation, path: Path, limit: int = 6) -> int:
    """Write a PNG page of the images that went worst, worst first; returns how many it shows.

    Left is the truth, right the prediction, as they are in the lake now; labels have the same colour on both sides. The
    score of an image is that of ``etl.evaluate.worst``. Images taken down since the evaluation are not shown.

    Args:
        lake: The lake that was evaluated.
        evaluation: The evaluation.
        path: The PNG file to write.
        limit: Images at most; an evaluation knows its ``etl.evaluate.worst.KEPT`` worst.

    Raises:
        DataError: No image is left to show, or one is not what the lake says it is.
        ConfigurationError: ``path`` cannot be written.
    """
    chosen = evaluation.worst[:limit]
    ids = [one.image_id for one in chosen]
    scope = evaluation.chosen.scope
    few = replace(evaluation.chosen, scope=scope.filter(pc.is_in(scope["image_id"], pa.array(ids, pa.string()))))
    with Snapshot.take(lake).connect() as connection:
        found = connection.execute(_IMAGES, [ids]).to_arrow_table().to_pylist()
        rows = Rows(connection, few, evaluation.classes)
        pairs = {pair.image_id: pair for pairs in rows.ranges() for pair in pairs}
    images = {row["image_id"]: decode(row["image_id"], read_bytes(lake, **row)) for row in found}
    shown = [one for one in chosen if one.image_id in images]
    if not shown:
        raise DataError(f"no image of the evaluation is left in {lake.uri}", remedy="evaluate again")
    blocks = [_block(number, one, pairs[one.image_id], images[one.image_id]) for number, one in enumerate(shown, 1)]
    save_page(_page(blocks, _heads(evaluation)), path)
    return len(blocks)


def _block(number: int, score: ImageScore, pair: Pair, picture: Image.Image) -> Image.Image:
    """One image: a title, truth and prediction side by side, and below what they say."""
    parts = {"tags": score.tags, "instances": score.instances, "captions": score.captions}
    listed = ", ".join(f"{name} {value:.2f}" for name, value in parts.items() if value is not None)
    title = f"{number}. {score.image_id[:12]}   score {score.score:.2f}   ({listed})"
    sides = [
        _side("truth", pair.truth, picture, _texts(pair.truth)),
        _side("prediction", pair.predicted, picture, [*_differences(pair), *_texts(pair.predicted)]),
    ]
    block = Image.new("RGB", (2 * CELL + GAP, LINE + GAP // 2 + max(side.height for side in sides)), _PAPER)
    ImageDraw.Draw(block).text((0, 0), title, fill=_INK, font=font(TEXT + 1))
    for column, side in enumerate(sides):
        block.paste(side, (column * (CELL + GAP), LINE + GAP // 2))
    return block


def _side(name: str, said: Said, picture: Image.Image, texts: Sequence[Block]) -> Image.Image:
    drawn = [_drawn(one, scored=name != "truth") for one in said.instances[:_OBJECTS_SHOWN]]
    width = min(CELL, max(40, round(CELL * 1.1 * picture.width / picture.height)))
    shown = draw(picture, drawn, width=width)
    hidden = len(said.instances) - len(drawn)
    blocks = [(f"{name}, {hidden} more objects not drawn" if hidden else name, _GREY), *texts]
    lines = [(line, ink) for text, ink in blocks for line in wrapped(text, CELL, TEXT)]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], (f"… {len(lines) - _LINES + 1} more lines", _GREY)]
    side = Image.new("RGB", (CELL, shown.height + 4 + LINE * len(lines)), _PAPER)
    side.paste(shown, ((CELL - shown.width) // 2, 0))
    pencil = ImageDraw.Draw(side)
    for row, (line, ink) in enumerate(lines):
        pencil.text((0, shown.height + 3 + LINE * row), line, fill=ink, font=font(TEXT))
    return side


def _drawn(one: Instance, *, scored: bool) -> Drawn:
    x, y, width, height = one.box
    mask: Any = None if one.mask is None else coco.decode(one.mask).astype(bool)
    return Drawn(one.label, (x, y, x + width, y + height), mask, one.score if scored else None)


def _texts(said: Said) -> list[Block]:
    """Captions and tags of one side; the captions of instances from left to right, so that both sides agree."""
    texts = [f"caption: {caption}" for caption in said.captions]
    texts += [f"tags: {', '.join(sorted(said.tags))}"] if said.tags else []
    instances = [one for one in sorted(said.instances, key=lambda one: one.box) if one.caption]
    texts += [f"{one.label}: {one.caption}" + _TOO_SMALL * (one.flag == TOO_SMALL) for one in instances]
    return [(text, _INK) for text in texts]


def _differences(pair: Pair) -> list[Block]:
    """What the prediction lacks of the truth, and what it says beyond it."""
    answered = {
        "tags": (pair.truth.tags, pair.predicted.tags),
        "objects": (pair.truth.instances, pair.predicted.instances),
        "caption": (pair.truth.captions, pair.predicted.captions),
    }
    texts = [f"no {name}" for name, (truth, predicted) in answered.items() if truth and not predicted]
    missing, wrong = pair.truth.tags - pair.predicted.tags, pair.predicted.tags - pair.truth.tags
    if pair.predicted.tags:
        texts += [
            f"{what} tags: {', '.join(sorted(tags))}" for what, tags in (("missing", missing), ("wrong", wrong)) if tags
        ]
    return [(text, _RED) for text in texts]


def _heads(evaluation: Evaluation) -> list[Block]:
    """Who is compared with whom."""
    chosen = evaluation.chosen
    pairs = [(stage, chosen.predicted[stage], chosen.truth[stage]) for stage in chosen.stages]
    return [
        (
            f"{stage}: {who.model} against {right.model}" + " - untrained weights" * who.untrained,
            _RED if who.untrained else _INK,
        )
        for stage, who, right in pairs
    ]


def _page(blocks: Sequence[Image.Image], heads: Sequence[Block]) -> Image.Image:
    columns = min(_PAIRS_PER_ROW, len(blocks))
    rows = [blocks[start : start + columns] for start in range(0, len(blocks), columns)]
    heights = [max(block.height for block in row) for row in rows]
    step = blocks[0].width + 2 * GAP
    top = 2 * GAP + LINE * len(heads)
    page = Image.new("RGB", (columns * step, top + sum(heights) + 2 * GAP * len(rows) - GAP), _PAPER)
    pencil = ImageDraw.Draw(page)
    for number, (head, ink) in enumerate(heads):
        pencil.text((GAP, GAP + LINE * number), head, fill=ink, font=font(TEXT))
    for row, height in zip(rows, heights, strict=True):
        for column, block in enumerate(row):
            page.paste(block, (GAP + column * step, top))
        top += height + 2 * GAP
        if top < page.height:
            pencil.line((GAP, top - GAP, page.width - GAP, top - GAP), fill=(215, 215, 215))
    return page
