"""Two sides of an image, as the scores take them."""

from __future__ import annotations

from collections.abc import Sequence

from scored_lake import NO_MASK, SIZE, Object, rle

from etl.evaluate.rows import Instance, Pair, Said


def instance(one: Object, number: int = 0) -> Instance:
    """An object as the lake's rows would give it."""
    x1, y1, x2, y2 = one.box
    box = (float(x1), float(y1), float(x2 - x1), float(y2 - y1))
    mask = None if one.mask == NO_MASK else rle(one.mask or one.box)
    return Instance(f"{number:03d}", one.label, one.score, box, mask, one.caption, one.flag)


def instances(objects: Sequence[Object]) -> tuple[Instance, ...]:
    """Objects in the order given."""
    return tuple(instance(one, number) for number, one in enumerate(objects))


def pair(
    truth: Sequence[Object] = (),
    predicted: Sequence[Object] = (),
    *,
    name: str = "a",
    captions: tuple[Sequence[str], Sequence[str]] = ((), ()),
    tags: tuple[Sequence[str], Sequence[str]] = ((), ()),
    stages: Sequence[str] = ("tag", "ground", "caption"),
) -> Pair:
    """Both sides of one image; tags and captions as (truth, prediction)."""
    right, scored = (
        Said(frozenset(tags[side]), instances(objects), tuple(captions[side]))
        for side, objects in enumerate((truth, predicted))
    )
    return Pair(name, *SIZE, frozenset(stages), right, scored)
