"""``groundlake truth``: what people say about pictures, landed and listed from the command line."""

from __future__ import annotations

import json

import pytest
from handmade import Handmade, Picture
from truth_files import image, thing, write, write_captions

from etl.lake import Lake

SIZE = (24, 16)


def url(number: int) -> str:
    return f"http://example.test/hand/0/{number}"


@pytest.fixture
def hand(lake: Lake, tmp_path, monkeypatch) -> Handmade:
    """A lake of three pictures, named by the environment."""
    monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
    monkeypatch.setenv("GROUNDLAKE_SCRATCH", str(tmp_path / "scratch"))
    made = Handmade(lake)
    made.add(*(Picture(SIZE, seed=n) for n in range(3)))
    return made


def add(groundlake, *more: object, source: str = "hand"):
    return groundlake("truth", "add", "--name", "made", "--source", source, *more)


def test_truth_is_added_listed_and_not_added_again(groundlake, hand, tmp_path):
    images = [image(n, SIZE, url(n)) for n in (0, 1, 9)]
    annotations = [thing(0), thing(0, iscrowd=1), thing(1, (0, 0, 99, 9)), thing(7)]
    files = ("--instances", write(tmp_path, images, annotations))
    files += ("--captions", write_captions(tmp_path, (0, "a dog"), (0, "one dog")))
    assert groundlake("truth", "list").out.startswith("no truth yet; next: groundlake truth add")

    first, second = add(groundlake, *files), add(groundlake, *files)
    listed = groundlake("truth", "list").out
    (row,) = json.loads(groundlake("truth", "list", "--json").out)

    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "made: 3 images in the file = 2 in the lake + 1 not in the lake + 0 taken down" in first.out
    assert "source hand: 2 pictures have truth, 1 pictures of it are not in the file" in first.out
    assert "1 crowds" in first.out
    assert "1 further captions" in first.out
    assert "1 annotations of no image" in first.out
    cells = [line.replace("│", "").split() for line in first.out.splitlines() if line.startswith("│")]
    assert [line[0] for line in cells] == ["tag", "ground", "caption"]
    assert all(line[2:] == ["2", "1", "0", "1", "(bad_box", "1)", "0", "2"] for line in cells)
    assert "truth, ground: 2/2 images" in first.err
    assert "nothing new" in second.out
    assert "nothing new" not in first.out
    assert (row["name"], row["images"], row["instances"], row["current_for"]) == ("made", 2, 1, {})
    for stage, annotator in row["annotators"].items():
        assert f"{stage} {annotator[:12]}" in listed


def test_a_file_of_which_every_picture_fails_is_bad_data_and_says_how_to_see_why(groundlake, hand, tmp_path):
    ran = add(groundlake, "--instances", write(tmp_path, [image(0, (99, 99), url(0))]))

    assert ran.code == 65
    assert "stage tag: every picture failed: 1 (size_differs 1)" in ran.err
    sql = ran.err.split('groundlake sql "')[1].split('"')[0]
    assert "image 0 has 99x99 pixels in the file, 24x16 in the lake" in groundlake("sql", sql).out


@pytest.mark.parametrize(
    ("content", "source", "code", "words"),
    [
        ("{}", "hand", 65, "has no images and no annotations"),
        (None, "hand", 65, "none of the 1 images of the file is a picture of source 'hand'"),
        (None, "other", 78, "unknown source 'other'; known: hand"),
    ],
)
def test_what_cannot_be_landed_is_refused(groundlake, hand, tmp_path, content, source, code, words):
    path = write(tmp_path, [image(0, SIZE)])
    if content:
        path.write_text(content)
    ran = add(groundlake, "--instances", path, source=source)

    assert (ran.code, words in ran.err) == (code, True), ran.err
    assert "  -> " in ran.err
