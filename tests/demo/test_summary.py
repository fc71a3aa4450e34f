"""The summary counts what the lake holds, and a lake that does not hold what was served is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from handmade import START, Handmade, Picture, Thing

from etl.demo.pictures import SampleSource
from etl.demo.prepare import MANIFESTS, Layout
from etl.demo.report import Report
from etl.demo.scores import score
from etl.demo.summary import CountsDifferError, check_counts, counts, print_summary, unfinished, warn_of_untrained
from etl.evaluate.evaluation import Evaluation
from etl.lake import Lake, Snapshot
from etl.shapes.files.truth import write_truth
from etl.shapes.world.splits import numbered_scene

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


@pytest.fixture
def evaluation(hand: Handmade, tmp_path: Path) -> Evaluation:
    """That of three pictures whose truth is scenes of the same size."""
    with Snapshot.take(hand.lake).connect() as connection:
        urls = connection.execute("select min(url) from sightings group by image_id order by all").fetchall()
    scenes = [numbered_scene("test", number, size=(640, 480), count=2) for number in range(len(urls))]
    write_truth(tmp_path, [(url, scene) for (url,), scene in zip(urls, scenes, strict=True)])
    return score(hand.lake, SampleSource(tmp_path / "urls.parquet", {}, 0, 0), "demo")


def test_the_summary_names_counts_scores_manifests_and_pictures_to_look_at(
    hand: Handmade, evaluation: Evaluation, report: Report, said: Callable[[], str], tmp_path: Path
) -> None:
    build(hand.lake, ["demo-coco"])
    layout = Layout(tmp_path)
    layout.folder.mkdir()
    print_summary(hand.lake, "demo", layout, evaluation, report)
    lines = [" ".join(line.split()) for line in said().splitlines()]
    for wanted in (
        *("6 urls served", "ok 3", "duplicate 1", "failed/http_404 1", "failed/decode 1"),
        *("3 images", "tag 3 0 0", "ground 2 1 0 1 no_boxes"),
        *("tags 3", "boxes 3", "masks 3", "image captions 3", "instance captions 2", "text embeddings 5"),
        "Scores of the annotators against the truth of 3 images",
        "boxes ap 0.000, ap50 0.000, ap75 0.000 6",
        *("demo-coco coco 2 3", f"{layout.lake}/manifests/demo-coco/v"),
        f"Contact sheet of 3 pictures: {layout.contact_sheet}",
        f"The 3 worst pictures beside their truth: {layout.worst}",
    ):
        assert wanted in lines
    for picture in (layout.contact_sheet, layout.worst):
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert "UNTRAINED" in said()


def test_only_annotators_that_are_current_and_untrained_are_called_so(
    lake: Lake, report: Report, said: Callable[[], str]
) -> None:
    hand = Handmade(lake)
    hand.annotate(hand.add(DOG, source="old"), DOG, untrained=True)
    warn_of_untrained(lake, "demo", report)
    assert "UNTRAINED" not in said()
    warn_of_untrained(lake, "old", report)
    assert "caption, embed, ground, tag are UNTRAINED" in said()
