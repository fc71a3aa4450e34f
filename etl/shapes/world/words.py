"""What a scene may hold, in words: the truth of the world, and the vocabulary of the networks trained on it.

Every pair of shapes stays distinct when a picture is turned, mirrored or stretched to a square, as RAM and BLIP-2 do:
no square beside a diamond, no circle beside an ellipse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHAPES = ("circle", "crescent", "cross", "heart", "ring", "square", "star", "triangle")
# Red, green, blue of the middle of each colour; "gray" is every shape of a picture without colours.
COLOURS = {
    "red": (216, 38, 40),
    "orange": (244, 134, 24),
    "yellow": (244, 218, 44),
    "green": (44, 164, 66),
    "cyan": (56, 206, 214),
    "blue": (44, 78, 220),
    "purple": (136, 56, 186),
    "pink": (246, 128, 182),
}
GRAY = "gray"
PLAIN, STRIPED, DOTTED = "plain", "striped", "dotted"
TEXTURES = (PLAIN, STRIPED, DOTTED)  # a plain shape's texture is not named
COLOUR_NAMES = (*COLOURS, GRAY)
TAGS = tuple(sorted((*SHAPES, *COLOUR_NAMES, STRIPED, DOTTED)))
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def phrase(shape: str, colour: str, texture: str) -> str:
    """What one instance is called; no size: a crop cannot show it.

    >>> phrase("circle", "red", "striped"), phrase("star", "blue", "plain")
    ('striped red circle', 'blue star')
    """
    return " ".join(word for word in (texture, colour, shape) if word != PLAIN)


def sentence(instances: Sequence[tuple[str, str]]) -> str:
    """What a whole picture is called, from shape and colour of its instances: how many, which colours, which shapes.

    >>> sentence([("star", "red"), ("circle", "blue"), ("star", "red")])
    'three shapes in red and blue : a circle and a star'
    >>> sentence([])
    'no shapes'
    """
    if not instances:
        return "no shapes"
    colours = _listed(name for name in COLOUR_NAMES if name in {colour for _, colour in instances})
    shapes = _listed(f"a {name}" for name in SHAPES if name in {shape for shape, _ in instances})
    noun = "shape" if len(instances) == 1 else "shapes"
    return f"{NUMBERS[len(instances)]} {noun} in {colours} : {shapes}"


def _listed(names: Iterable[str]) -> str:
    *before, last = names
    return f"{' , '.join(before)} and {last}" if before else last


def sentence_words() -> list[str]:
    """Every word a phrase or sentence may hold, sorted."""
    return sorted({*TAGS, *NUMBERS, "shape", "shapes", "in", "and", "a", ",", ":"})
