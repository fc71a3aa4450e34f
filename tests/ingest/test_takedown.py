"""What was taken down never comes back: not by its url, not by its bytes, not from a shard that was under way."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from forgetting import traces
from handmade import Picture
from rows import row

from etl.ingest import shard as shard_module
from etl.ingest.counts import IngestCounts
from etl.ingest.download import Fetched
from etl.ingest.planning import make_plan, plan_shards
from etl.ingest.shard import ingest_shard
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.lake.takedown import PURGED, REQUESTED, Request, add, purge, target
from etl.settings import Settings, Source

Served = dict[str, bytes]
A, B, C, D = (f"https://host.example/{name}.png" for name in "abcd")


def picture(seed: int, side: int = 32) -> bytes:
    return Picture(size=(side, side), seed=seed, format="PNG").encoded()


def words(url: str) -> str:
    """The caption that a list gives a url."""
    return f"words {digest(url)}"


class Site:
    """A web of a few urls, downloaded into a tar as img2dataset writes it: each picture with a side file."""

    def __init__(self, lake: Lake, folder: Path) -> None:
        self.lake, self.served, self.folder = lake, Served(), folder
        self.meanwhile: Callable[[], object] = lambda: None

    def download(self, urls: Sequence[str], _: object, folder: Path, __: object) -> tuple[Path, list[Fetched]]:
        answers = []
        with tarfile.open(folder / "site.tar", "w") as tar:
            for number, url in enumerate(urls):
                data = self.served[url]
                sha = hashlib.sha256(data).hexdigest()
                side = json.dumps({"url": url, "sha256": sha}).encode()
                for name, content in ((f"{number}.jpg", data), (f"{number}.json", side)):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                answers.append(Fetched(f"{number}.jpg", sha, None, None, 200, len(data)))
        self.meanwhile()
        return folder / "site.tar", answers

    def ingest(self, served: Mapping[str, bytes], name: str = "mine") -> IngestCounts:
        """List urls in a source, plan it and download its one shard."""
        self.served.update(served)
        path = self.folder / f"{name}.csv"
        path.write_text("url,caption\n" + "".join(f"{url},{words(url)}\n" for url in served))
        source = Source.model_validate({"name": name, "uri": str(path), "caption_column": "caption"})
        (ref,) = make_plan(self.lake, source, name).refs
        return ingest_shard(self.lake, ref)

    def take_down(self, *asked: tuple[str, str]) -> None:
        add(self.lake, Request.of([target(kind, value) for kind, value in asked], "asked"))


@pytest.fixture
def site(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Site:
    lake = Lake.create(str(tmp_path / "lake"), settings.model_copy(update={"purge_hours": 0}))
    site = Site(lake, tmp_path)
    monkeypatch.setattr(shard_module, "download", site.download)
    return site


def images(lake: Lake) -> list[str]:
    return sorted(lake.table("images").to_pyarrow_table()["image_id"].to_pylist())


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def test_it_is_refused_after_all_its_rows_are_gone(site: Site) -> None:
    lake = site.lake
    site.ingest({A: picture(1), B: picture(2), C: picture(3), D: picture(4)})
    resized = {"image_id": "ab" * 16, "source_sha256": hashlib.sha256(picture(5)).hexdigest(), "shard_id": "s"}
    lake.append("sightings", [row("sightings", **resized)], digest("resized"))
    asked = [("url", A), ("image_id", digest_of(picture(2))), ("sha256", hashlib.sha256(picture(3)).hexdigest())]
    site.take_down(*asked, ("image_id", "ab" * 16))
    assert [one.state for one in purge(lake)] == [PURGED]
    assert images(lake) == [digest_of(picture(4))]

    again = {
        A: picture(9),  # the same url with other bytes
        f"{A}?1": picture(1),  # the same bytes at other urls, whatever it was taken down by
        f"{B}?2": picture(2),
        f"{C}?3": picture(3),
        f"{D}?5": picture(5),  # stored in another size before
        B: picture(10),  # another picture, of which nobody spoke
    }
    counts = site.ingest(again, "other")
    assert (counts.failed, counts.ok) == ({"taken_down": 5}, 1)
    assert images(lake) == sorted(digest_of(picture(seed)) for seed in (4, 10))
    gone = [picture(seed) for seed in (1, 2, 3, 5, 9)]
    assert not any(data in lake.store.read(one.key) for one in lake.store.list("raw/") for data in gone)
    assert traces(lake, digest_of(picture(1)), picture(1), [words(A)]) == []

    refs = plan_shards(lake, [one["shard_id"] for one in lake.table("shards").to_pyarrow_table().to_pylist()], "again")
    assert sorted(ingest_shard(lake, ref).failed["taken_down"] for ref in refs) == [2, 5]  # B has another picture now
    assert traces(lake, digest_of(picture(1)), picture(1), [words(A)]) == []


def test_a_shard_under_way_is_covered_by_the_pass_after_it_closes(site: Site) -> None:
    lake, states = site.lake, list[str]()

    def meanwhile() -> None:
        site.take_down(("url", A))
        states.extend(one.state for one in purge(lake))

    site.meanwhile = meanwhile
    site.ingest({A: picture(1), B: picture(2)})
    assert states == [REQUESTED]
    shown = Snapshot.take(lake).sql("select image_id from images")
    assert shown["image_id"].to_pylist() == [digest_of(picture(2))], "hidden though it came in"
    assert [one.state for one in purge(lake)] == [PURGED]
    assert traces(lake, digest_of(picture(1)), picture(1), [words(A)]) == []


def test_bytes_that_no_row_leads_to_go_too(site: Site) -> None:
    lake, small = site.lake, picture(5, side=8)
    assert site.ingest({A: small, B: picture(2)}).failed == {"too_small": 1}
    (tar,) = [one.key for one in lake.store.list("raw/")]
    lost = tar.replace(".tar", "0.tar")  # of a twin that was killed before it named it
    lake.store.put(lost, lake.store.read(tar))
    site.take_down(("url", A))
    purge(lake)
    for key in (tar, lost):
        data = lake.store.read(key)
        assert (small in data, picture(2) in data) == (False, True)
