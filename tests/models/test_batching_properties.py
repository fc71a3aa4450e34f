"""What a network says of a picture or text alone, it says in any batch, in any order, beside any mates: bit for bit.

One rule for every family, in float32 on a CPU, with two threads, which is when the last bits of a product first depend
on its shape. Pictures are of the shapes and modes of ``tests/odd_pictures.py``, decoded as the runner decodes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_pictures import ODD
from tiny_captioners import blip2_folder, qwen_folder
from tiny_clip import clip_folder
from tiny_taggers import write_label_encoder, write_tagger
from upstream_files import write_groundingdino_files, write_sam_files

from etl.lake.pixels import decode_upright
from etl.models.checkpoints import convert, folder_files, groundingdino
from etl.models.families import open_network

PICTURES = [decode_upright(one.encoded()) for one in ODD]
TEXTS = ["dog", "", "a small brown dog near a house", "x-ray", "a b c d e " * 30, "\u00e9t\u00e9", "<end> a", "e d"]
PROMPTS = [["cat"], ["dog", "x-ray", "rubik's cube"], ["thing"] * 12]
BOXES = np.asarray([[0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.7, 0.9], [0.5, 0.5, 0.51, 0.52]])  # shares of the picture
SEARCH: dict[str, Any] = {"beams": 3, "max_new_tokens": 4}
SMALL: dict[str, Any] = {"max_new_tokens": 4, "min_pixels": 16 * 16, "max_pixels": 40 * 40}  # beams: 1


@dataclass(frozen=True)
class Asked:
    """A network, and what it says of things by their numbers, in model batches of a size."""

    things: int
    ask: Callable[[Sequence[int], int], list[Any]]


def taggers(root: Path) -> Iterator[tuple[str, Asked]]:
    for family in ("ram", "ram-plus", "tag2text"):
        tagger = open_network(family, "tagger", write_tagger(root / family, family), "cpu", "float32")
        yield (
            family,
            Asked(len(PICTURES), lambda some, _, tagger=tagger: list(tagger.scores([PICTURES[i] for i in some]))),
        )


def captioners(root: Path) -> Iterator[tuple[str, Asked]]:
    for name, family, folder, search in (
        ("tag2text captions", "tag2text", root / "tag2text", SEARCH),
        ("blip2 opt", "blip2", blip2_folder(root / "opt", "opt"), SEARCH),
        ("blip2 t5", "blip2", blip2_folder(root / "t5", "t5"), SEARCH),
        ("qwen-vl", "qwen-vl", qwen_folder(root / "qwen"), SMALL),
    ):
        opened = open_network(family, "captioner", folder, "cpu", "float32")

        def ask(some: Sequence[int], size: int, opened: Any = opened, search: Any = search) -> list[Any]:
            return list(opened.captions([PICTURES[i] for i in some], batch_size=size, **search))

        yield name, Asked(len(PICTURES), ask)


def encoders(root: Path) -> Iterator[tuple[str, Asked]]:
    for name, task, folder in (
        ("clip-text", "embedder", clip_folder(root / "clip")),
        ("label-encoder", "label-encoder", write_label_encoder(root / "labels")),
    ):
        opened = open_network("clip-text", task, folder, "cpu", "float32")
        yield (
            name,
            Asked(len(TEXTS), lambda some, size, opened=opened: list(opened.vectors([TEXTS[i] for i in some], size))),
        )


def converted(root: Path, family: str, given: Path) -> Path:
    out = root / f"{family}-converted"
    out.mkdir()
    convert(family, folder_files(given), out)
    return out


def segmenters(root: Path) -> Iterator[tuple[str, Asked]]:
    scaled = [(BOXES * [*one.size, *one.size]).astype(np.float32) for one in PICTURES]
    for family in ("sam", "sam-hq"):
        folder = converted(root, family, write_sam_files(root / family, family))
        opened = open_network(family, "segmenter", folder, "cpu", "float32")

        def ask(some: Sequence[int], size: int, opened: Any = opened) -> list[Any]:
            # Every picture with one box, two or three, by its number: what is beside a box differs too.
            found = opened.segment([PICTURES[i] for i in some], [scaled[i][: 1 + i % 3] for i in some], size)
            return [(one.logits.numpy(), one.ious, *one.masks()) for one in found]

        yield family, Asked(len(PICTURES), ask)


def detectors(root: Path) -> Iterator[tuple[str, Asked]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(groundingdino.PREPROCESSOR, "size", {"shortest_edge": 80, "longest_edge": 144})
        folder = converted(root, "groundingdino", write_groundingdino_files(root / "dino", ["cat", "dog", "thing"]))
    detector = open_network("groundingdino", "grounder", folder, "cpu", "float32")
    pictures = PICTURES[:1] + PICTURES[2:3] + PICTURES[11:]  # one resized shape, as the stage gives them
    assert len({detector.shape(*one.size) for one in pictures}) == 1
    asked = list(itertools.product(pictures, [prompt(detector, words) for words in PROMPTS]))

    def ask(some: Sequence[int], size: int) -> list[Any]:
        found = detector.detect([asked[i][0] for i in some], [asked[i][1] for i in some], size)
        return [(one.boxes, one.probabilities) for one in found]

    yield "groundingdino", Asked(len(asked), ask)


def prompt(detector: Any, words: list[str]) -> list[int]:
    return [101, *(token for word in words for token in (*detector.tokens(word), 1012)), 102]


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, _two_threads: None) -> dict[str, Asked]:
    root = tmp_path_factory.mktemp("networks")
    return {name: one for make in (taggers, captioners, encoders, segmenters, detectors) for name, one in make(root)}


@pytest.fixture(scope="module")
def alone(networks: dict[str, Asked]) -> dict[str, list[Any]]:
    """What each network says of each thing when nothing else is asked."""
    return {name: [one.ask([i], 1)[0] for i in range(one.things)] for name, one in networks.items()}


NAMES = ["ram", "ram-plus", "tag2text", "tag2text captions", "blip2 opt", "blip2 t5", "qwen-vl"]
NAMES += ["clip-text", "label-encoder", "sam", "sam-hq", "groundingdino"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_an_answer_depends_on_nothing_that_is_asked_beside_it(
    networks: dict[str, Asked], alone: dict[str, list[Any]], name: str, data: st.DataObject
):
    asked = networks[name]
    some = data.draw(st.lists(st.integers(0, asked.things - 1), min_size=1, max_size=9), label="things")
    found = asked.ask(some, data.draw(st.integers(1, 9), label="batch size"))
    assert len(found) == len(some)
    for index, answer in zip(some, found, strict=True):
        np.testing.assert_equal(answer, alone[name][index])


@pytest.mark.parametrize("name", NAMES)
def test_answers_differ_from_thing_to_thing(alone: dict[str, list[Any]], name: str):
    assert len({repr(answer) for answer in alone[name]}) > len(alone[name]) // 3, "else the rule above says nothing"


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_finite_for_pictures_of_any_shape(alone: dict[str, list[Any]], name: str):
    for answer in alone[name]:
        parts = [answer.score] if hasattr(answer, "score") else answer if isinstance(answer, tuple) else [answer]
        assert all(np.isfinite(np.asarray(part)).all() for part in parts)
