"""A real crawl: real img2dataset against a loopback server, and the lake against what that server served."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from etl.ingest import shard as shard_module
from etl.ingest.counts import source_counts
from etl.ingest.shard import ingest_shard
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest_bytes

if TYPE_CHECKING:
    from tests.ingest.conftest import Crawl


def rows(lake: Lake, query: str) -> list[dict[str, object]]:
    with Snapshot.take(lake).connect() as connection:
        return connection.execute(query).to_arrow_table().to_pylist()


def test_served_is_ok_plus_duplicate_plus_failed_by_class(crawl: Crawl) -> None:
    found = {"ok": crawl.counts.ok, "duplicate": crawl.counts.duplicate, **crawl.counts.failed}
    assert found == crawl.sample.expected
    assert crawl.counts.n_urls == crawl.sample.n_urls
    assert source_counts(Snapshot.take(crawl.lake), "demo") == crawl.counts


def test_every_listed_url_has_one_row_and_its_own_fate(crawl: Crawl) -> None:
    listed = set(pq.read_table(crawl.sample.list_path)["url"].to_pylist())
    found = rows(crawl.lake, "select url, status, error_class, image_id from downloads")
    assert sorted(row["url"] for row in found) == sorted(listed)
    places = [str(row["url"]).removeprefix(f"{crawl.base_url}/").split("/")[1] for row in found]  # "v2/gone/1.jpg"
    by_folder = Counter(zip(places, (row["error_class"] for row in found), strict=True))
    assert by_folder[("pictures", None)] == 200
    assert by_folder[("gone", "http_404")] == 12
    assert by_folder[("private.png", "robots")] == 1
    assert {row["status"] for row in found if row["image_id"] is None} == {"failed"}


def test_statuses_and_lengths_of_answers_are_kept(crawl: Crawl) -> None:
    found = rows(crawl.lake, "select url, error_class, http_status, bytes, error from downloads where url like 'http%'")
    statuses = {(row["error_class"], row["http_status"]) for row in found}
    assert statuses >= {(None, 200), ("http_404", 404), ("http_500", 500), ("decode", 200), ("robots", 200)}
    for row in found:
        assert (row["error"] is None) == (row["error_class"] is None)
        if row["error_class"] is None and "/pictures/" in str(row["url"]):
            assert row["bytes"] == (crawl.site / str(row["url"]).removeprefix(f"{crawl.base_url}/")).stat().st_size


def test_one_range_read_of_the_tar_gives_exactly_the_bytes_that_were_served(crawl: Crawl) -> None:
    query = "select s.url, i.* from raw.images i join raw.sightings s using (image_id) where s.url like '%/pictures/%'"
    found = rows(crawl.lake, query)
    assert len(found) >= 200
    for row in found:
        data = crawl.lake.store.read_range(str(row["tar"]), int(row["offset"]), int(row["length"]))  # type: ignore[call-overload]
        assert data == (crawl.site / str(row["url"]).removeprefix(f"{crawl.base_url}/")).read_bytes()
        assert digest_bytes(data) == row["image_id"]
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        assert upright.size == (row["width"], row["height"])


def test_captions_licence_and_source_belong_to_the_sighting(crawl: Crawl) -> None:
    captions = dict(zip(*pq.read_table(crawl.sample.list_path).to_pydict().values(), strict=True))
    found = rows(crawl.lake, "select * from sightings")
    assert len(found) == crawl.counts.ok + crawl.counts.duplicate
    for row in found:
        assert (row["caption"], row["licence"], row["source"]) == (captions[row["url"]], "CC0-1.0", "demo")
        assert str(row["source_sha256"])[:32] == row["image_id"]


def test_the_view_shows_each_picture_once_and_turned_pictures_are_there(crawl: Crawl) -> None:
    found = rows(crawl.lake, "select image_id, orientation, format from images")
    assert len(found) == crawl.counts.ok == len({row["image_id"] for row in found})
    assert {row["orientation"] for row in found} == set(range(1, 9))
    assert {row["format"] for row in found} == {"jpeg", "png", "webp"}


def test_progress_rises_to_all_fetched_urls(crawl: Crawl) -> None:
    done = [one for one, _ in crawl.progress]
    assert done == sorted(done)
    assert crawl.progress[-1] == (crawl.sample.n_urls - 1, crawl.sample.n_urls - 1)  # the bad url is not fetched


def test_nothing_is_left_in_the_scratch_folder(crawl: Crawl) -> None:
    assert [path.name for path in crawl.lake.settings.scratch.glob("ingest-*")] == []


def test_a_second_call_downloads_nothing_and_counts_the_same(crawl: Crawl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "download", None)  # a call of it would fail
    versions = Snapshot.take(crawl.lake).versions
    assert ingest_shard(crawl.lake, crawl.plan.refs[0]) == crawl.counts
    assert Snapshot.take(crawl.lake).versions == versions
