"""A real crawl of the demo's site by real img2dataset, done once; and its replay for tests of what comes after."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from etl.demo.pictures import SampleSource, make_source
from etl.demo.server import serve
from etl.ingest import shard as shard_module
from etl.ingest.counts import IngestCounts
from etl.ingest.download import Fetched, Progress, download
from etl.ingest.planning import IngestPlan, make_plan
from etl.lake import Lake
from etl.settings import Settings, Source
from etl.settings.catalog import Download

Downloader = Callable[[Sequence[str], Download, Path, Progress], tuple[Path, list[Fetched]]]


@dataclass(frozen=True)
class Crawl:
    """The demo's site in a lake, as one shard.

    Attributes:
        lake: Where it went.
        site: The folder that was served.
        base_url: Where it was served.
        sample: The truth about it.
        source: The list.
        plan: What was planned.
        counts: What ``ingest_shard`` returned.
        progress: Every call of the progress function.
        replay: A ``download`` that gives what img2dataset left, without a request.
    """

    lake: Lake
    site: Path
    base_url: str
    sample: SampleSource
    source: Source
    plan: IngestPlan
    counts: IngestCounts
    progress: list[tuple[int, int]]
    replay: Downloader


@pytest.fixture(scope="session")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Crawl:
    """The demo's site, crawled."""
    root = tmp_path_factory.mktemp("crawl")
    site, kept = root / "site", root / "kept"
    site.mkdir()
    kept.mkdir()
    with serve(site) as base_url:  # the port is part of the urls, and they are part of the site
        pass
    sample = make_source(site, base_url)
    answers: list[list[Fetched]] = []

    def keep(urls: Sequence[str], settings: Download, folder: Path, progress: Progress) -> tuple[Path, list[Fetched]]:
        tar, fetched = download(urls, settings, folder, progress)
        shutil.copy(tar, kept / "kept.tar")
        answers.append(fetched)
        return tar, fetched

    def replay(urls: Sequence[str], _: Download, folder: Path, __: Progress) -> tuple[Path, list[Fetched]]:
        assert len(urls) == len(answers[0])
        return Path(shutil.copy(kept / "kept.tar", folder / "again.tar")), answers[0]

    lake = Lake.create(str(root / "lake"), Settings(scratch=root / "scratch", commit_deadline=20))
    source = demo_source(sample)
    progress: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch, serve(site, int(base_url.rsplit(":", 1)[1])):
        patch.setattr(shard_module, "download", keep)
        plan = make_plan(lake, source, "first")
        counts = shard_module.ingest_shard(lake, plan.refs[0], lambda done, total: progress.append((done, total)))
    return Crawl(lake, site, base_url, sample, source, plan, counts, progress, replay)


def demo_source(sample: SampleSource) -> Source:
    """The site's list as a source of one shard."""
    return Source(
        name="demo",
        uri=str(sample.list_path),
        caption_column="caption",
        licence="CC0-1.0",
        shard_size=1000,
        download=Download(allow_private_addresses=True),
    )
