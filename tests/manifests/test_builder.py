"""A build is pinned, counted, there whole or not at all, and repeats itself byte for byte."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from handmade import Handmade, Picture, Thing, copy_of, read_jsonl

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.lake import Lake
from etl.lake.snapshot import QueryError
from etl.manifests.builder import BuiltManifest, build_manifest
from etl.manifests.empty import EmptyManifestError
from etl.manifests.files import UNFINISHED, unfinished_folder
from etl.manifests.splits import Splitter
from etl.settings import ManifestSpec, Settings
from etl.settings.catalog import Split

DOG = Thing("dog", (100, 80, 300, 400), "a brown dog on grass")
BOX = Thing("box", (320, 100, 600, 300), "a blue box")
PICTURES = [Picture(things=[DOG, BOX], seed=1), Picture(things=[DOG], seed=2), Picture(seed=3)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Handmade:
    """Three annotated pictures: two objects, one object, none."""
    folder = tmp_path_factory.mktemp("made")
    hand = Handmade(Lake.create(str(folder / "lake"), Settings(scratch=folder)))
    hand.annotate(hand.add(*PICTURES), *PICTURES)
    return hand


@pytest.fixture
def hand(made: Handmade, lake: Lake) -> Handmade:
    """A lake of this test's own with those pictures."""
    return copy_of(made, lake)


def spec(sql: str = "select image_id from images", fmt: str = "jsonl", **more: object) -> ManifestSpec:
    return ManifestSpec.model_validate({"name": "train-list", "sql": sql, "format": fmt, **more})


def lines(built: BuiltManifest) -> list[dict[str, object]]:
    return read_jsonl(built.folder / "train.jsonl")


def test_a_manifest_lies_in_the_lake_under_its_name_and_version(hand: Handmade) -> None:
    built = build_manifest(hand.lake, spec())
    assert built.folder == Path(hand.lake.uri) / "manifests" / "train-list" / built.version
    assert (built.built, built.images, built.annotations, built.dropped) == (True, 3, 3, {})
    assert {line["image_id"] for line in lines(built)} == set(hand.ids)


def test_building_again_with_nothing_changed_finds_the_existing_one(hand: Handmade) -> None:
    first = build_manifest(hand.lake, spec())
    again = build_manifest(hand.lake, spec())
    assert (again.built, again.version, again.lock) == (False, first.version, first.lock)
    rows = hand.lake.table("manifests").to_pyarrow_table().to_pylist()
    assert [(row["name"], row["version"], row["path"], row["n_images"]) for row in rows] == [
        ("train-list", first.version, f"manifests/train-list/{first.version}", 3)
    ]


def test_the_same_rows_give_the_same_bytes_elsewhere(hand: Handmade, tmp_path: Path) -> None:
    here = build_manifest(hand.lake, spec(fmt="coco"))
    there = build_manifest(hand.lake, spec(fmt="coco"), tmp_path / "out")
    assert there.built
    assert there.folder == tmp_path / "out" / "train-list" / here.version
    assert (there.folder / "files.sha256").read_bytes() == (here.folder / "files.sha256").read_bytes()


def test_new_annotations_give_a_new_version_beside_the_old_one(hand: Handmade) -> None:
    old = build_manifest(hand.lake, spec())
    hand.annotate(hand.add(Picture(things=[BOX], seed=9)), Picture(things=[BOX], seed=9))
    new = build_manifest(hand.lake, spec())
    assert new.version != old.version
    assert (old.images, new.images) == (3, 4)
    assert (old.folder / "manifest.lock.json").is_file()


def test_rows_of_other_images_leave_the_version_as_it_is(hand: Handmade) -> None:
    one = spec(f"select image_id from images where image_id = '{hand.ids[0]}'")
    old = build_manifest(hand.lake, one)
    hand.add(Picture(seed=9))
    assert build_manifest(hand.lake, one).version == old.version


def test_the_lock_names_sql_table_versions_annotators_and_the_digest_of_every_file(hand: Handmade) -> None:
    built = build_manifest(hand.lake, spec(fmt="coco"))
    lock = json.loads((built.folder / "manifest.lock.json").read_text())
    assert lock["spec"]["sql"] == "select image_id from images"
    assert lock["tables"]["images"] == hand.lake.table("images").version()
    assert [(a["stage"], a["model"]) for a in lock["annotators"]][:2] == [
        ("caption", "caption-model"),
        ("embed", "embed-model"),
    ]
    listing = (built.folder / "files.sha256").read_bytes()
    assert lock["files"]["sha256"] == hashlib.sha256(listing).hexdigest()
    named = dict(reversed(line.split("  ")) for line in listing.decode().splitlines())
    found = {p.relative_to(built.folder).as_posix(): p for p in built.folder.rglob("*") if p.is_file()}
    assert set(found) - {"files.sha256", "manifest.lock.json"} == set(named)
    assert all(hashlib.sha256(found[name].read_bytes()).hexdigest() == digest for name, digest in named.items())
    assert hand.lake.uri not in json.dumps(lock)


def test_the_lock_says_when_weights_were_untrained(lake: Lake) -> None:
    hand = Handmade(lake)
    hand.annotate(hand.add(PICTURES[0]), PICTURES[0], untrained=True)
    assert build_manifest(lake, spec()).lock["untrained"] is True


def test_ids_that_do_not_exist_and_ids_taken_down_are_counted(hand: Handmade) -> None:
    hand.take_down(hand.ids[0])
    built = build_manifest(hand.lake, spec("select image_id from raw.images union all select 'nobody'"))
    selection = built.lock["selection"]
    assert (selection["images_named"], selection["images_found"]) == (4, 2)
    assert (selection["images_taken_down"], selection["images_unknown"]) == (1, 1)
    assert hand.ids[0] not in {line["image_id"] for line in lines(built)}


def test_images_not_yet_looked_at_are_dropped_never_shown_as_empty(hand: Handmade) -> None:
    hand.add(Picture(seed=9))
    failed = hand.add(Picture(seed=10))
    hand.outcomes("ground", failed, [("failed", "decode")])
    built = build_manifest(hand.lake, spec(fmt="coco"))
    assert built.images == 3
    assert built.dropped == {"ground_failed": 1, "ground_pending": 1}


def test_a_picture_whose_bytes_were_damaged_is_dropped(hand: Handmade) -> None:
    row = hand.lake.table("images").to_pyarrow_table(filters=[("image_id", "=", hand.ids[1])]).to_pylist()[0]
    tar = Path(hand.lake.uri) / row["tar"]
    data = bytearray(tar.read_bytes())
    data[row["offset"] + 500] ^= 255
    tar.write_bytes(data)
    built = build_manifest(hand.lake, spec(fmt="coco"))
    assert (built.images, built.dropped) == (2, {"bytes_differ": 1})


def test_sql_may_choose_instances_and_override_captions(hand: Handmade) -> None:
    sql = "select image_id, instance_id, 'pets: ' || label as caption from instances where label = 'dog'"
    built = build_manifest(hand.lake, spec(sql))
    assert [[one["label"] for one in line["instances"]] for line in lines(built)] == [["dog"], ["dog"]]  # type: ignore[attr-defined]
    assert {line["caption"] for line in lines(built)} == {"pets: dog"}


def test_instances_that_do_not_exist_are_counted(hand: Handmade) -> None:
    built = build_manifest(hand.lake, spec("select image_id, 'nobody' as instance_id from images"))
    assert built.annotations == 0
    assert (built.lock["selection"]["instances_named"], built.lock["selection"]["instances_unknown"]) == (1, 1)


@pytest.mark.parametrize(
    ("option", "caption"),
    [
        ("source_first", "as found on the web"),
        ("generated", "a generated caption"),
        ("generated_first", "a generated caption"),
    ],
)
def test_the_option_chooses_the_caption_of_the_image(hand: Handmade, option: str, caption: str) -> None:
    built = build_manifest(hand.lake, spec(options={"image_caption": option}))
    assert {line["caption"] for line in lines(built)} == {caption}


@pytest.mark.parametrize(
    ("sql", "error", "part"),
    [
        ("delete from images", QueryError, "exactly one SELECT"),
        ("select url from sightings", QueryError, "image_id"),
        ("select image_id from nothing_here", QueryError, "nothing_here"),
        ("select image_id from images where false", EmptyManifestError, "yields no row"),
        ("select 'nobody' as image_id", EmptyManifestError, "images_unknown 1"),
    ],
)
def test_sql_that_gives_nothing_ends_with_a_reason(hand: Handmade, sql: str, error: type[DataError], part: str) -> None:
    with pytest.raises(error, match=part) as caught:
        build_manifest(hand.lake, spec(sql))
    assert caught.value.exit_code == 65
    assert not list((Path(hand.lake.uri) / "manifests").rglob("manifest.lock.json"))


def test_a_lake_without_annotations_says_what_to_do(lake: Lake) -> None:
    Handmade(lake).add(*PICTURES)
    with pytest.raises(EmptyManifestError, match="ground_pending 3") as caught:
        build_manifest(lake, spec(fmt="coco"))
    assert "annotate run" in str(caught.value.remedy)
    assert not list((Path(lake.uri) / "manifests" / "train-list").iterdir())


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"options": {"colour": "red"}}, ConfigurationError),
        ({"split": {"shares": {"train": 0.9}}}, ConfigurationError),
        ({"split": {"shares": {"../train": 1.0}}}, ConfigurationError),
    ],
)
def test_wrong_options_are_configuration_errors(
    hand: Handmade, more: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        build_manifest(hand.lake, spec(**more))


def test_splits_cover_all_and_growth_moves_no_image(hand: Handmade) -> None:
    shares = {"train": 0.5, "val": 0.3, "test": 0.2}
    splitter = Splitter(Split(shares=shares))
    before = {f"{n:032x}": splitter.of(f"{n:032x}") for n in range(3000)}
    counts = {name: list(before.values()).count(name) / 3000 for name in shares}
    assert all(abs(counts[name] - share) < 0.03 for name, share in shares.items())
    assert Splitter(Split(shares=dict(reversed(shares.items())))).of(f"{5:032x}") == before[f"{5:032x}"]
    built = build_manifest(hand.lake, spec(split={"shares": shares}))
    written = {line["image_id"]: split for split in shares for line in read_jsonl(built.folder / f"{split}.jsonl")}
    assert written == {image_id: splitter.of(image_id) for image_id in hand.ids}


def test_what_a_killed_build_left_is_removed_by_the_next(hand: Handmade) -> None:
    parent = Path(hand.lake.uri) / "manifests" / "train-list"
    script = f"""
import os, pathlib
from etl.manifests.files import unfinished_folder
with unfinished_folder(pathlib.Path({str(parent / "v")!r})) as folder:
    (folder / "half.json").write_text("half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert len(list(parent.glob(f"{UNFINISHED}*"))) == 1
    build_manifest(hand.lake, spec())
    assert list(parent.glob(f"{UNFINISHED}*")) == []


def test_a_living_twin_keeps_its_folder(tmp_path: Path) -> None:
    with unfinished_folder(tmp_path / "v") as mine, unfinished_folder(tmp_path / "v") as twin:
        assert mine.is_dir()
        assert twin.is_dir()


def test_a_folder_without_lock_is_never_taken_for_a_manifest(hand: Handmade) -> None:
    built = build_manifest(hand.lake, spec())
    (built.folder / "manifest.lock.json").unlink()
    with pytest.raises(DataError, match="no whole manifest"):
        build_manifest(hand.lake, spec())


def test_an_unknown_format_is_named(hand: Handmade) -> None:
    unknown = spec().model_copy(update={"format": "yolo"})
    with pytest.raises(UnknownNameError, match="coco"):
        build_manifest(hand.lake, unknown)


def test_progress_reaches_the_number_of_images(hand: Handmade) -> None:
    seen: list[tuple[int, int]] = []
    build_manifest(hand.lake, spec(), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_twins_that_build_at_once_leave_one_whole_manifest(hand: Handmade) -> None:
    with ThreadPoolExecutor(2) as pool:
        built = [one.result() for one in [pool.submit(build_manifest, hand.lake, spec(fmt="coco")) for _ in range(2)]]
    assert built[0].folder == built[1].folder
    assert sorted(one.built for one in built) == [False, True]
    assert [p.name for p in built[0].folder.parent.iterdir()] == [built[0].version]
    assert hand.lake.table("manifests").to_pyarrow_table().num_rows == 1
