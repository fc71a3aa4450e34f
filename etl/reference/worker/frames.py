"""What goes between groundlake and the worker: frames of a header and named arrays. No import of torch here.

A frame is its length in eight bytes, then a ``.npz``: the arrays, and the header as JSON under the name ``header``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

LENGTH = 8  # bytes of a frame's length, the lowest first
HEADER = "header"
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Message:
    """A question or an answer.

    Attributes:
        header: What JSON can hold.
        arrays: Numbers, and texts as arrays of str.
    """

    header: dict[str, Any]
    arrays: Arrays = field(default_factory=dict)


def packed(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> bytes:
    """A frame, its length included."""
    buffer = io.BytesIO()
    content: Any = {HEADER: np.asarray(json.dumps(header)), **{name: np.asarray(one) for name, one in arrays.items()}}
    np.savez(buffer, **content)
    body = buffer.getvalue()
    return len(body).to_bytes(LENGTH, "little") + body


def unpacked(body: bytes) -> Message:
    """A frame's content, given without its length; raises ValueError when it is none. Pickles are never read."""
    with np.load(io.BytesIO(body), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return Message(json.loads(str(arrays.pop(HEADER))), arrays)


def received(stream: BinaryIO) -> Message | None:
    """The next frame of a stream, or None at its end."""
    begin = stream.read(LENGTH)
    body = stream.read(int.from_bytes(begin, "little")) if len(begin) == LENGTH else b""
    return unpacked(body) if body else None
