"""A worker that stands in for upstream's packages: it speaks the frames and answers by simple rules.

    python stand_in_upstream.py [what it does at a question, else answer]

It knows what a segmenter, a detector or a tagger is asked, by what is in the question.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from etl.reference import process
from etl.reference.environment import VARIABLE
from etl.reference.worker.frames import Arrays, Message, packed, received

FACTS = {
    "sam": {"side": 64},
    "groundingdino": {"max_text_len": 256, "queries": 5, "strides": [8, 16, 32, 64], "sides": [64, 107]},
    "ram": {"tags": ["dog", "box", "ball"], "thresholds": [0.5, 0.5, 1.0]},
}


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, does: str = "answer") -> None:
    """Let every worker of this process be a stand-in.

    Args:
        monkeypatch: Undoes it.
        folder: An empty folder.
        does: ``answer``, ``raise``, ``die``, ``hang`` at every question, or ``lack`` the package of every family.
    """
    path = folder / "stand_in_worker.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                    f"import stand_in_upstream\nstand_in_upstream.serve({does!r})\n")  # fmt: skip
    monkeypatch.setenv(VARIABLE, sys.executable)
    monkeypatch.setattr(process, "WORKER", path)


def serve(does: str) -> None:
    """Answer until the other side closes."""
    answered = 0
    while (asked := received(sys.stdin.buffer)) is not None:
        header, arrays = {}, {}
        if asked.header["do"] == "open":
            family = asked.header["family"]
            header = {"facts": FACTS.get(family, {}) | {"pid": os.getpid(), "device": asked.header["device"]}}
            if does == "lack":
                header = {"error": "ModuleNotFoundError: no module", "missing": "ram" if "ram" in family else "sam"}
        elif does == "die":
            sys.stderr.write("first\nno memory left\n")
            sys.stderr.flush()
            os._exit(7)
        elif does == "hang":
            time.sleep(600)
        elif does == "raise" and not answered:
            header = {"error": "ValueError: odd"}
            answered += 1
        else:
            answered += 1
            arrays = answer(asked) | {"answered": np.asarray(answered)}
        sys.stdout.buffer.write(packed(header, arrays))
        sys.stdout.buffer.flush()


def answer(asked: Message) -> Arrays:
    """Boxes make masks of their halves, ids make a box for each, a picture alone makes scores."""
    given = asked.arrays
    if asked.header["do"] == "tokens":
        return {"ids": np.asarray([len(word) for word in asked.header["text"].split()])}
    if asked.header["do"] == "text":
        return {"text": np.asarray(" ".join(str(one) for one in given["ids"]))}
    if "boxes" in given:
        logits = np.ones((len(given["boxes"]), 16, 16), np.float32)
        logits[:, :, 8:] = -1
        return {"logits": logits, "ious": np.linspace(0.5, 0.9, len(logits), dtype=np.float32)}
    if "ids" in given:
        count = len(given["ids"])
        boxes = np.full((5, 4), 0.5, np.float32)
        return {"boxes": boxes, "probabilities": np.tile(np.linspace(0, 1, count, dtype=np.float32), (5, 1))}
    if "picture" in given:
        return {"scores": np.asarray([given["picture"].mean() / 255, 0.5, 0.25], np.float32)}
    return {"twice": given["given"] * 2, "text": np.asarray(asked.header["word"])} if given else {}
