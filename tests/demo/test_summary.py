"""The summary counts what the lake holds, and a lake that does not hold what was served is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from handmade import START, Handmade, Picture, Thing

from etl.demo.pictures import SampleSource
from etl.demo.prepare import MANIFESTS, Layout
from etl.demo.report import Report
from etl.demo.summary import CountsDifferError, check_counts, counts, print_summary, unfinished
from etl.lake import Lake

DOG = Picture(things=[Thing("dog", (10, 20, 110, 220), "a dog")], seed=1)
TWO = Picture(things=[Thing("box", (0, 0, 50, 50)), Thing("ball", (60, 60, 90, 90), "a red ball")], seed=2)
BARE = Picture(seed=3)


@pytest.fixture
def hand(lake: Lake) -> Handmade:
    """Three pictures, one of them also at a second url, and two urls that failed."""
    hand = Handmade(lake)
    shard = hand.add(DOG, TWO, BARE, source="demo", failed=["http_404", "decode"])
    hand.add(DOG, source="demo")
    hand.annotate(shard, DOG, TWO, BARE, untrained=True)
    return hand


def served(**expected: int) -> SampleSource:
    return SampleSource(Path("urls.parquet"), expected, sum(expected.values()), 0)


def build(lake: Lake, names: list[str]) -> None:
    rows = [
        {"name": name, "version": "v", "format": "coco", "path": f"manifests/{name}/v", "lock": "{}"}
        | {"n_images": 2, "n_annotations": 3, "built_at": START}
        for name in names
    ]
    lake.append("manifests", rows, "built" + "".join(names))


def test_urls_are_counted_as_ok_duplicate_or_by_the_class_of_their_failure(hand: Handmade) -> None:
    assert counts(hand.lake, "demo") == {"ok": 3, "duplicate": 1, "http_404": 1, "decode": 1}


def test_a_lake_that_holds_what_was_served_passes(hand: Handmade) -> None:
    build(hand.lake, list(MANIFESTS))
    check_counts(hand.lake, "demo", served(ok=3, duplicate=1, http_404=1, decode=1, too_small=0))


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        ({"ok": 4, "duplicate": 1, "http_404": 1, "decode": 1}, "ok: served 4, in the lake 3"),
        ({"ok": 3, "duplicate": 1, "http_404": 1, "robots": 1}, "decode: served 0, in the lake 1"),
        ({"ok": 3, "duplicate": 1, "http_404": 1, "robots": 1}, "robots: served 1, in the lake 0"),
    ],
)
def test_a_count_that_differs_is_named_with_both_numbers(
    hand: Handmade, expected: dict[str, int], complaint: str
) -> None:
    build(hand.lake, list(MANIFESTS))
    with pytest.raises(CountsDifferError, match=complaint):
        check_counts(hand.lake, "demo", served(**expected))


def test_a_picture_that_was_taken_down_since_is_no_difference(lake: Lake) -> None:
    hand = Handmade(lake)
    hand.annotate(hand.add(DOG, source="demo", failed=["taken_down", "decode"]), DOG)
    build(lake, list(MANIFESTS))
    check_counts(lake, "demo", served(ok=2, decode=1))
    with pytest.raises(CountsDifferError, match="taken_down: served 0, in the lake 1"):
        check_counts(lake, "demo", served(ok=3, decode=1))


def test_pictures_without_an_outcome_are_work_for_annotate(hand: Handmade) -> None:
    build(hand.lake, list(MANIFESTS))
    assert unfinished(hand.lake, "demo") is None
    hand.add(Picture(seed=9), source="demo")
    assert unfinished(hand.lake, "demo") == ("annotate", {"sources": ["demo"]})


def test_pictures_of_another_source_are_no_work_of_the_demo(hand: Handmade) -> None:
    build(hand.lake, list(MANIFESTS))
    hand.add(Picture(seed=9), source="mine")
    assert unfinished(hand.lake, "demo") is None


def test_manifests_that_were_never_built_are_work_for_manifest(hand: Handmade) -> None:
    first, *others = MANIFESTS
    build(hand.lake, [first])
    assert unfinished(hand.lake, "demo") == ("manifest", {"names": sorted(others)})


def test_the_summary_names_every_count_the_manifests_and_the_contact_sheet(
    hand: Handmade, report: Report, said: Callable[[], str], tmp_path: Path
) -> None:
    build(hand.lake, ["demo-coco"])
    layout = Layout(tmp_path)
    layout.folder.mkdir()
    print_summary(hand.lake, "demo", layout, report)
    lines = [" ".join(line.split()) for line in said().splitlines()]
    for wanted in (
        *("6 urls served", "ok 3", "duplicate 1", "failed/http_404 1", "failed/decode 1"),
        *("3 images", "tag ok 3", "ground ok 2", "ground empty/no_boxes 1"),
        *("tags 3", "boxes 3", "masks 3", "image captions 3", "instance captions 2", "text embeddings 5"),
        *("demo-coco coco 2 3", f"{layout.lake}/manifests/demo-coco/v"),
        f"Contact sheet of 3 pictures: {layout.contact_sheet}",
    ):
        assert wanted in lines
    assert layout.contact_sheet.read_bytes().startswith(b"\x89PNG")
    assert "UNTRAINED" in said()
