"""The sample source: the same bytes every time, in the sizes and formats it promises, with the truth beside it."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from etl.demo.pictures import SampleSource, bomb, draw, make_source

BASE = "http://127.0.0.1:8123"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site") / "source"


@pytest.fixture(scope="module")
def sample(folder: Path) -> SampleSource:
    return make_source(folder, BASE)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_truth_adds_up_to_the_list(sample: SampleSource) -> None:
    urls = pq.read_table(sample.list_path)["url"].to_pylist()
    assert sum(sample.expected.values()) == sample.n_urls == len(set(urls)) == len(urls) - sample.list_duplicates
    assert set(sample.expected) == {
        "ok", "duplicate", "decode", "empty", "too_small", "too_large", "http_404", "http_500", "robots", "bad_url"
    }  # fmt: skip


def test_pictures_have_many_sizes_formats_modes_and_orientations(sample: SampleSource, folder: Path) -> None:
    pictures = [Image.open(path) for path in sorted((folder / "pictures").iterdir())]
    assert len(pictures) == sample.expected["ok"] == 240
    assert len({picture.size for picture in pictures}) >= 9
    assert {side for picture in pictures for side in picture.size} <= set(range(48, 401))
    assert {picture.format for picture in pictures} == {"JPEG", "PNG", "WEBP"}
    assert {picture.mode for picture in pictures} == {"RGB", "RGBA", "L"}
    assert {picture.getexif().get(0x0112, 1) for picture in pictures} == set(range(1, 9))


def test_no_two_pictures_are_the_same_but_the_mirrored_ones(sample: SampleSource, folder: Path) -> None:
    found = [data for name, data in files(folder).items() if name.startswith("pictures/")]
    assert len(set(found)) == len(found)
    mirrored = [data for name, data in files(folder).items() if name.startswith("mirror/")]
    assert len(mirrored) == sample.expected["duplicate"] - 1  # and the redirect
    assert set(mirrored) <= set(found)


def test_a_second_call_changes_nothing(sample: SampleSource, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make_source(folder, BASE) == sample
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_made_elsewhere_it_is_the_same_bytes(sample: SampleSource, folder: Path, tmp_path: Path) -> None:
    make_source(tmp_path / "again", BASE)
    assert files(tmp_path / "again") == files(folder)


def test_an_unfinished_or_moved_site_is_made_anew(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "left-over.jpg").write_bytes(b"x")
    moved = make_source(site, "http://127.0.0.1:9999")
    assert not (site / "left-over.jpg").exists()
    urls = pq.read_table(moved.list_path)["url"].to_pylist()
    assert all(url.startswith(("http://127.0.0.1:9999/", "ftp://")) for url in urls)


def test_a_caption_names_what_is_drawn() -> None:
    image, caption = draw(2)
    assert image.mode == "RGB"
    assert caption.count(" and ") == 2
    assert caption.endswith("background")


def test_the_bomb_is_small_and_claims_to_be_huge() -> None:
    data = bomb()
    assert len(data) < 1000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
