"""The sample source: the same bytes every time, in the formats it promises, with the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from etl.demo import pictures
from etl.demo.pictures import KNOWN, VERSION, SampleSource, make_source, place_of
from etl.demo.server import ANSWERS
from etl.shapes.files.awkward import awkward_pictures
from etl.shapes.world.splits import numbered_scene

BASE = "http://127.0.0.1:8123"


@pytest.fixture(scope="module", autouse=True)
def _few() -> Iterator[None]:
    """Enough scenes for every kind of file: it is not their number that is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "SCENES", 21)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site") / "source"


@pytest.fixture(scope="module")
def sample(folder: Path) -> SampleSource:
    return make_source(folder, BASE)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def truth_of(sample: SampleSource) -> dict[str, dict[str, object]]:
    """Tags and caption by url."""
    images = json.loads(sample.truth.instances.read_text())["images"]
    captions = {one["image_id"]: one["caption"] for one in json.loads(sample.truth.captions.read_text())["annotations"]}
    return {image["coco_url"]: {"tags": image["tags"], "caption": captions[image["id"]]} for image in images}


def test_the_fates_add_up_to_the_list(sample: SampleSource) -> None:
    urls = pq.read_table(sample.list_path)["url"].to_pylist()
    assert sum(sample.expected.values()) == sample.n_urls == len(set(urls)) == len(urls) - sample.list_duplicates
    assert set(sample.expected) == {
        "ok", "duplicate", "decode", "empty", "too_small", "too_large", "http_404", "http_500", "robots", "bad_url"
    }  # fmt: skip


def test_pictures_have_many_sizes_formats_modes_and_orientations(sample: SampleSource) -> None:
    place = sample.list_path.parent
    made = [Image.open(path) for name in ("pictures", "awkward") for path in sorted((place / name).iterdir())]
    assert len(made) == sample.expected["ok"] == 21 + 12
    assert len({picture.size for picture in made}) >= 8
    assert {picture.format for picture in made} == {"JPEG", "PNG", "WEBP"}
    assert {picture.mode for picture in made} == {"RGB", "RGBA", "L"}
    assert {picture.getexif().get(0x0112, 1) for picture in made} >= {1, 2, 3, 4}


def test_every_picture_that_enters_the_lake_has_its_truth_and_no_other_url_has(sample: SampleSource) -> None:
    truth = truth_of(sample)
    rows = pq.read_table(sample.list_path).to_pylist()
    wanted = {row["url"] for row in rows if "/pictures/" in row["url"] or "/awkward/" in row["url"]}
    assert set(truth) == wanted
    assert len(wanted) == sample.expected["ok"]
    assert {url: one["caption"] for url, one in truth.items()} == {
        row["url"]: row["caption"] for row in rows if row["url"] in wanted
    }
    seventh = next(url for url in truth if "/pictures/0007." in url)
    assert truth[seventh]["tags"] == numbered_scene("test", 7).tags
    assert {url.rpartition("/")[2] for url in truth if "/awkward/" in url} == {one.name for one in awkward_pictures()}


def test_no_two_pictures_are_the_same_but_the_mirrored_ones(sample: SampleSource) -> None:
    content = files(sample.list_path.parent)
    found = [data for name, data in content.items() if name.startswith(("pictures/", "awkward/"))]
    assert len(set(found)) == len(found)
    mirrored = [data for name, data in content.items() if name.startswith("mirror/")]
    assert len(mirrored) == sample.expected["duplicate"] - 1  # and the redirect
    assert set(mirrored) <= set(found)


def test_special_answers_are_those_of_listed_urls_and_the_redirect_leads_to_a_picture(
    sample: SampleSource, folder: Path
) -> None:
    answers = json.loads((folder / ANSWERS).read_text())
    assert {f"{BASE}{path}" for path in answers} <= set(pq.read_table(sample.list_path)["url"].to_pylist())
    (target,) = [answer["redirect"] for answer in answers.values() if "redirect" in answer]
    assert (folder / target.lstrip("/")).is_file()


def test_a_second_call_changes_nothing(sample: SampleSource, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make_source(folder, BASE) == sample
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_unfinished_site_is_made_anew_with_the_same_bytes(
    sample: SampleSource, folder: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    (place_of(again) / "pictures").mkdir(parents=True)
    (place_of(again) / "pictures" / "left-over.jpg").write_bytes(b"x")
    make_source(again, BASE)
    assert files(again) == files(folder)


def test_a_site_that_moved_to_another_port_is_made_anew_and_another_version_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "SCENES", 10)
    place, other = place_of(tmp_path), tmp_path / "urls.parquet"
    place.mkdir()
    (place / KNOWN).write_text(json.dumps({"version": VERSION, "scenes": 10, "base_url": BASE, "source": {}}))
    other.write_bytes(b"the list of an older demo")
    moved = make_source(tmp_path, "http://127.0.0.1:9999")
    urls = pq.read_table(moved.list_path)["url"].to_pylist()
    assert all(url.startswith((f"http://127.0.0.1:9999/{place.name}/", "ftp://")) for url in urls)
    assert other.read_bytes() == b"the list of an older demo"
