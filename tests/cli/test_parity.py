"""``groundlake parity``: what it prints and how it ends; the engines themselves are compared in tests/reference."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from etl.reference import parity as compared
from etl.reference.compare import Difference, Parity
from etl.reference.environment import VARIABLE

ALIKE = Parity("sam", 3, (Difference("logits", 2e-7, 1e-6), Difference("ious", 0.0, 0.0)), 500, 2, 3e-7)
TAGS = Parity(
    "tag2text",
    1,
    (Difference("scores", 0.01, 0.02),),
    labels=7,
    labels_apart=("picture 0: 'dog' upstream only",),
    label_margin=0.003,
    captions=1,
    captions_apart=("picture 0: 'a dog' upstream, 'a cat' ours",),
)
BOXES = Parity("groundingdino", 1, (), labels=2, proposals=900, proposals_apart=4, proposal_margin=2e-7)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the comparison was called with; ``found`` is its answer."""
    seen: dict[str, Any] = {"found": ALIKE}

    def stand_in(family: str, folder: Path, question: Any, work: Path, ours: Path | None) -> Parity:
        seen.update(family=family, question=question, ours=ours, files=sorted(path.name for path in folder.iterdir()))
        found: Parity = seen["found"]
        return found

    monkeypatch.setattr(compared, "parity", stand_in)
    return seen


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("x")
    return folder


def test_engines_that_agree_end_with_0_and_say_how_far_they_are_apart(groundlake, asked, tmp_path):
    ran = groundlake("parity", "sam", "--checkpoint", write(tmp_path / "sam", "sam_vit_b.pth") / "sam_vit_b.pth")
    assert ran.code == 0
    assert "logits │ 2e-07              │ 1e-06" in ran.out
    assert "mask pixels that differ: 2 of 500, their logits at most 3e-07 of the largest" in ran.out
    assert asked["files"] == ["sam_vit_b.pth"]
    assert [len(own) for own in asked["question"].boxes] == [3, 3, 3]


def test_a_difference_beyond_the_limit_ends_with_65_and_is_named(groundlake, asked, tmp_path):
    asked["found"] = TAGS
    lists = "tag2text_ori_tag_list.txt"
    folder = write(tmp_path / "tag2text", "tag2text.pth", lists, "vocab.txt")
    ran = groundlake("parity", "tag2text", "--checkpoint", folder)
    assert ran.code == 65
    assert "scores differ by 0.02" in ran.err
    assert "labels that differ: 1 of 7, at most 0.003 from their threshold\n  picture 0: 'dog' upstream only" in ran.out
    assert "captions that differ: 1 of 1\n  picture 0: 'a dog' upstream, 'a cat' ours" in ran.out
    assert asked["question"].captions


def test_the_limit_is_the_callers(groundlake, asked, tmp_path):
    folder = write(tmp_path / "sam", "sam.pth")
    assert groundlake("parity", "sam", "--checkpoint", folder, "--limit", "1e-7").code == 65
    assert groundlake("parity", "sam", "--checkpoint", folder, "--limit", "1e-6").code == 0


def test_json_says_the_same_and_what_is_beyond(groundlake, asked, tmp_path):
    folder = write(tmp_path / "sam", "sam.pth")
    ran = groundlake("parity", "sam", "--checkpoint", folder, "--limit", "1e-7", "--json")
    found = json.loads(ran.out)
    assert ran.code == 65
    assert found["differences"][0] == {"name": "logits", "largest": 2e-07, "relative": 1e-06}
    assert found["beyond"] == ["logits differ by 1e-06", "mask pixels differ whose logits are 3e-07 from 0"]


def test_a_detectors_files_come_from_the_folder_of_its_text_encoder(groundlake, asked, tmp_path):
    asked["found"] = BOXES
    text = write(tmp_path / "bert", "config.json", "vocab.txt", "model.safetensors")
    given = write(tmp_path / "dino", "swint.pth", "other.txt") / "swint.pth"
    ran = groundlake("parity", "groundingdino", "--checkpoint", given, "--text", text, "--prompt", "dog .")
    assert ran.code == 0
    assert asked["files"] == ["config.json", "swint.pth", "vocab.txt"]
    assert asked["question"].prompts == ["dog ."] * 3
    assert "proposals that differ: 4 of 900, their scores at most 2e-07 apart" in ran.out


def test_a_taggers_lists_are_those_beside_its_checkpoint(groundlake, asked, tmp_path):
    names = ("ram.pth", "ram_tag_list.txt", "ram_tag_list_threshold.txt")
    folder = write(tmp_path / "ram", *names, "notes.txt", "old.pth")
    groundlake("parity", "ram", "--checkpoint", folder / "ram.pth", "--ours", tmp_path / "converted")
    assert asked["files"] == sorted(names)
    assert asked["ours"] == tmp_path / "converted"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["blip2"], 78, "unknown family with a reference engine 'blip2'; known: groundingdino"),
        (["sam", "--checkpoint", "none.pth"], 78, "none.pth is no file"),
        (["groundingdino", "--checkpoint", "a.pth"], 78, "needs its text encoder's config.json"),
        (["sam", "--checkpoint", "a.pth", "--images", "empty"], 65, "empty holds no images"),
        (["sam", "--checkpoint", "a.pth", "--images", "broken"], 65, "an image in broken cannot be read"),
    ],
)
def test_what_is_asked_wrongly_is_refused(groundlake, tmp_path, arguments, code, words):
    write(tmp_path, "a.pth")
    write(tmp_path / "empty")
    write(tmp_path / "broken", "a.png")
    ran = groundlake("parity", *arguments)
    assert (ran.code, words in ran.err) == (code, True)


def test_a_missing_reference_environment_ends_with_78_and_says_how_to_make_it(groundlake, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    ran = groundlake("parity", "sam")
    assert ran.code == 78
    assert "run 'make reference'" in ran.err


def test_a_missing_package_ends_with_78_and_says_where_it_is(groundlake, monkeypatch):
    monkeypatch.setenv(VARIABLE, sys.executable)  # which has none of upstream's
    ran = groundlake("parity", "ram")
    assert ran.code == 78
    assert "the reference environment has no package 'ram'" in ran.err
    assert "recognize-anything" in ran.err
