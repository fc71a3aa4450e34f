"""Pictures of the shapes, sizes and modes that the web has, beside the usual ones; each differs from the others."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from handmade import Picture
from PIL import Image

FIELDS = 4  # a side of the coarse pattern that tells pictures apart


@dataclass(frozen=True)
class Odd(Picture):
    """A pattern of soft fields, stored in a mode of Pillow's: ``L`` and ``I;16`` are grey, ``P`` has a palette."""

    mode: str = "RGB"

    def upright(self) -> Image.Image:
        """The pattern in RGB, before it is stored."""
        fields = np.random.default_rng(self.seed).integers(0, 256, (FIELDS, FIELDS, 3), dtype=np.uint8)
        return Image.fromarray(fields).resize(self.size, Image.Resampling.BICUBIC)

    def encoded(self) -> bytes:
        """The stored bytes, in the mode."""
        if self.mode == "RGB":
            return super().encoded()
        picture, buffer = self.upright(), io.BytesIO()
        if self.mode == "I;16":
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        else:
            picture = picture.convert(self.mode)
        picture.save(buffer, self.format)
        return buffer.getvalue()


# Usual ones, one on its side, grey, with a palette, transparent, tiny, very long and very tall, two pixels wide.
ODD = (
    Odd((200, 150), seed=1),
    Odd((150, 200), seed=2, orientation=6),
    Odd((200, 150), seed=3, mode="L"),
    Odd((97, 61), seed=4, mode="I;16", format="PNG"),
    Odd((64, 64), seed=5, mode="P", format="PNG"),
    Odd((120, 90), seed=6, mode="RGBA", format="PNG"),
    Odd((16, 16), seed=7, format="PNG"),
    Odd((1, 1), seed=8, format="PNG"),
    Odd((640, 16), seed=9),
    Odd((16, 500), seed=10),
    Odd((2, 90), seed=11, format="PNG"),
    Odd((400, 300), seed=12),
)
