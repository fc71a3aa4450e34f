"""The worker's loop: one frame in, one frame out, until the other side closes."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch

from .frames import Arrays, Message, packed, received

ENGINES = {
    "sam": ("sam", "Sam"),
    "sam-hq": ("sam", "SamHQ"),
    "groundingdino": ("grounding", "GroundingDino"),
    "ram": ("tagging", "Ram"),
    "ram-plus": ("tagging", "RamPlus"),
    "tag2text": ("tagging", "Tag2Text"),
}


class Engine(Protocol):
    """A network of upstream's."""

    def facts(self) -> dict[str, Any]:
        """What the other side has to know of it."""
        ...

    def answer(self, asked: Message) -> Arrays:
        """The answer to a question."""
        ...


def main() -> None:
    """Serve until the other side closes or dies."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what upstream's code prints is no answer
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the other side decides when this ends
    questions: queue.Queue[Message] = queue.Queue()
    threading.Thread(target=listen, args=(sys.stdin.buffer, questions), daemon=True).start()
    opened: Engine | None = None
    while True:
        asked = questions.get()
        try:
            if asked.header["do"] == "open":
                opened = opened_engine(asked.header)
                reply(channel, {"facts": opened.facts()}, {})
            elif opened is None:
                raise RuntimeError("nothing is open")
            else:
                with torch.no_grad():
                    answer = opened.answer(asked)
                reply(channel, {}, {name: as_array(value) for name, value in answer.items()})
        except Exception as error:  # noqa: BLE001 - whatever upstream's code raises is the answer
            traceback.print_exc()
            reply(channel, {"error": described(error), "missing": getattr(error, "name", None)}, {})


def listen(stream: BinaryIO, questions: queue.Queue[Message]) -> None:
    """Hand on what comes in; end the process at once when the other side is gone, whatever it computes."""
    while (message := received(stream)) is not None:
        questions.put(message)
    os._exit(0)


def reply(channel: BinaryIO, header: dict[str, Any], arrays: Arrays) -> None:
    """Send a frame."""
    channel.write(packed(header, arrays))
    channel.flush()


def opened_engine(header: dict[str, Any]) -> Engine:
    """The engine that a header asks for."""
    torch.set_num_threads(header["threads"])
    module, name = ENGINES[header["family"]]
    make: Callable[..., Engine] = getattr(import_module(f".{module}", __package__), name)
    return make(Path(header["folder"]), header["device"], header["seed"])


def as_array(value: Any) -> Any:
    """A tensor or a list as an array."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def described(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
