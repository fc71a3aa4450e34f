"""A page of sample pictures with what the current annotators say about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from pycocotools import mask as coco

from etl.errors import DataError
from etl.lake import Lake, Snapshot
from etl.settings.catalog import STAGES
from etl.viewer.draw import Drawn, draw, font, save_page, wrapped
from etl.viewer.pictures import decode, read_bytes

COLUMNS, CELL, GAP, LINE, TEXT = 4, 360, 14, 17, 13
_LINES = 8  # of text below a picture
_OBJECTS_SHOWN = 12  # more would hide the picture
_INK, _GREY, _RED, _PAPER = (25, 25, 25), (110, 110, 110), (190, 30, 30), (255, 255, 255)

# Image ids are digests, so their order is a random choice that never changes.
_CHOICE = """
    with sizes as (select image_id, count(*) as n from instances group by all)
    select i.image_id, i.tar, i."offset", i.length, i.source,
        (select min(s.caption) from sightings s where s.image_id = i.image_id) as source_caption,
        (select c.caption from captions c where c.image_id = i.image_id and c.instance_id is null) as caption,
        (select list_transform(t.tags, lambda x: x.tag) from tags t where t.image_id = i.image_id) as tags
    from images i left join sizes on sizes.image_id = i.image_id
    where ? is null or i.source = ?
    order by sizes.n is null, i.image_id limit ?"""
_OBJECTS = """
    select i.*, c.caption from instances i
    left join captions c on c.image_id = i.image_id and c.instance_id = i.instance_id
    where i.image_id in (select unnest(?::varchar[])) order by i.score desc, i.instance_id"""
_ANNOTATORS = """
    select distinct c.stage, a.model, a.untrained from current c join annotators a using (annotator_id)
    where c.source in (select unnest(?::varchar[])) order by all"""


def contact_sheet(lake: Lake, path: Path, *, limit: int = 12, source: str | None = None) -> int:
    """Write a PNG grid of sample pictures with captions, boxes, masks and labels; returns how many it shows.

    The same lake gives the same sheet. Pictures with instances come first.

    Args:
        lake: The lake.
        path: The PNG file to write.
        limit: Pictures at most.
        source: Only this source.

    Raises:
        DataError: There is no picture to show.
        ConfigurationError: ``path`` cannot be written.
    """
    with Snapshot.take(lake).connect() as connection:
        images = connection.execute(_CHOICE, [source, source, limit]).to_arrow_table().to_pylist()
        objects = connection.execute(_OBJECTS, [[row["image_id"] for row in images]]).to_arrow_table().to_pylist()
        models = connection.execute(_ANNOTATORS, [sorted({row["source"] for row in images})]).fetchall()
    if not images:
        where = f"of source {source!r} " if source else ""
        raise DataError(f"no picture {where}in {lake.uri}", remedy="ingest some first: groundlake ingest run")
    cells = [_cell(lake, row, [one for one in objects if one["image_id"] == row["image_id"]]) for row in images]
    sheet = _page(cells, sorted(models, key=lambda model: STAGES.index(model[0])))
    save_page(sheet, path, remedy="choose another --out")
    return len(cells)


def _cell(lake: Lake, row: dict[str, Any], objects: Sequence[dict[str, Any]]) -> Image.Image:
    data = read_bytes(lake, row["image_id"], row["tar"], row["offset"], row["length"])
    picture = decode(row["image_id"], data)
    drawn = [
        Drawn(one["label"], (one["x1"], one["y1"], one["x2"], one["y2"]), _mask(one), one["score"]) for one in objects
    ][:_OBJECTS_SHOWN]
    width = min(CELL, max(40, round(CELL * 1.2 * picture.width / picture.height)))
    shown = draw(picture, drawn, width=width)
    hidden = len(objects) - len(drawn)
    texts = [("not drawn", f"{hidden} objects of lower score")] if hidden else []
    texts += [("caption", row["caption"]), ("source", row["source_caption"]), ("tags", ", ".join(row["tags"] or []))]
    texts += [(one["label"], one["caption"]) for one in objects if one["caption"]]
    lines = [line for name, text in texts if text for line in wrapped(f"{name}: {text}", CELL, TEXT)][:_LINES]
    cell = Image.new("RGB", (CELL, shown.height + LINE * (len(lines) + 1)), _PAPER)
    cell.paste(shown, ((CELL - shown.width) // 2, 0))
    pencil = ImageDraw.Draw(cell)
    for number, line in enumerate([*lines, row["image_id"]]):
        ink = _INK if number < len(lines) else _GREY
        pencil.text((0, shown.height + 3 + LINE * number), line, fill=ink, font=font(TEXT))
    return cell


def _mask(one: dict[str, Any]) -> Any:
    size = [one["mask_height"], one["mask_width"]]
    return coco.decode({"size": size, "counts": one["mask_counts"].encode()}).astype(bool)


def _page(cells: Sequence[Image.Image], models: Sequence[tuple[str, str, bool]]) -> Image.Image:
    columns = min(COLUMNS, len(cells))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    notes = [
        (f"{stage}: {model}" + (" - untrained weights" if untrained else ""), _RED if untrained else _INK)
        for stage, model, untrained in models
    ] or [("no annotations yet", _GREY)]
    head = GAP + LINE * len(notes)
    heights = [max(cell.height for cell in row) + GAP for row in rows]
    page = Image.new("RGB", (GAP + columns * (CELL + GAP), head + GAP + sum(heights)), _PAPER)
    pencil = ImageDraw.Draw(page)
    for number, (note, ink) in enumerate(notes):
        pencil.text((GAP, GAP + LINE * number), note, fill=ink, font=font(TEXT))
    top = head + GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            page.paste(cell, (GAP + column * (CELL + GAP), top))
        top += height
    return page
