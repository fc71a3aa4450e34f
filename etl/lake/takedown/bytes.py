"""The pictures themselves: their bytes in tars become zeros, member headers and lengths stay, so no offset moves."""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from etl.errors import RetryableError
from etl.lake.ids import LENGTH, url_digest
from etl.lake.lake import Lake
from etl.lake.maintenance.stream import SCRATCH_PREFIX
from etl.lake.takedown.resolve import Copy, Found
from etl.lake.takedown.scan import Scan
from etl.storage import NotFoundError

# Tars that hold a picture no row leads to: it came from a url to take down but was refused, or its writer was killed.
_UNTOLD = """
    select distinct s.source, s.shard_id, s.attempt from all_shards s
    where s.shard_id in (select value from listing)"""
_TOLD = "select distinct tar from disk_images where shard_id in (select value from listing)"
_REFUSED = """
    select distinct shard_id from disk_downloads where url_sha256 in (select value from asked)
    and status = 'failed' and bytes > 0 and error_class is distinct from 'taken_down'"""


class Eraser:
    """Overwrites pictures, each once, and counts the bytes per tar.

    Args:
        lake: The lake.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._done: set[Copy] = set()
        self.bytes: Counter[tuple[str, str]] = Counter()  # (image, tar)

    def erase(self, copies: Iterable[Copy]) -> None:
        """Overwrite these copies for good; one whose tar is gone, or ends before it, is gone.

        Raises:
            StorageError: The store failed.
            ConfigurationError: The store cannot do it safely.
        """
        by_tar: dict[str, list[Copy]] = {}
        for copy in sorted(set(copies) - self._done):
            by_tar.setdefault(copy.tar, []).append(copy)
        for tar, found in by_tar.items():
            self._erase(tar, found)
            self._done.update(found)

    def rows(self, images: pa.Table) -> None:
        """Overwrite what rows of ``images`` lead to, before they vanish."""
        columns = ["tar", "offset", "length", "image_id", "shard_id"]
        self.erase(Copy(**row) for row in images.select(columns).to_pylist())

    def _erase(self, tar: str, copies: list[Copy]) -> None:
        known = self._lake.store.stat(tar)
        within = [one for one in copies if known is not None and one.offset + one.length <= known.size]
        if not within:
            return
        try:
            self._lake.store.erase(tar, [(one.offset, one.length) for one in within])
        except NotFoundError:  # swept since we looked
            return
        for one in within:
            self.bytes[one.image_id, tar] += one.length


def untold_copies(scan: Scan, found: Found) -> Iterator[Copy]:
    """Copies that no row of ``images`` leads to, in the tars of shards that list the pictures' urls.

    A picture that was refused (too small, undecodable) stays in its tar; so does everything in the tar of a process
    that was killed before it named it. The tars' own side files tell which members they are.

    Raises:
        RetryableError: The scratch folder failed.
        StorageError: The store failed.
    """
    scan.give("listing", {"value": sorted(found.listing)})
    scan.give("asked", {"value": sorted(found.values("url_sha256"))})
    refused = {row["shard_id"] for row in scan.rows(_REFUSED)}
    told = {row["tar"] for row in scan.rows(_TOLD)}
    for row in scan.rows(_UNTOLD):
        for one in scan.lake.store.list(f"raw/{row['source']}/{row['shard_id']}-{row['attempt']}-"):
            if one.key not in told or row["shard_id"] in refused:
                yield from _members(scan.lake, one.key, row["shard_id"], found)


def _members(lake: Lake, tar: str, shard: str, found: Found) -> Iterator[Copy]:
    images, urls, sources = found.images, found.values("url_sha256"), found.values("source_sha256")
    for side, member in _pairs(lake, tar):
        sha = str(side.get("sha256"))
        if sha in sources or sha[:LENGTH] in images or url_digest(str(side.get("url"))) in urls:
            yield Copy(tar, member.offset_data, member.size, sha[:LENGTH], shard)


def _pairs(lake: Lake, key: str) -> Iterator[tuple[Mapping[str, object], tarfile.TarInfo]]:
    """Side files of a tar, each with its picture's member."""
    try:
        lake.settings.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=lake.settings.scratch) as folder:
            path = Path(folder) / "copy.tar"
            lake.store.download(key, path)
            with tarfile.open(path, "r:") as tar:
                pictures = {one.name.rpartition(".")[0]: one for one in tar if not one.name.endswith(".json")}
                for side in tar:
                    stem, _, kind = side.name.rpartition(".")
                    content = tar.extractfile(side) if kind == "json" and stem in pictures else None
                    if content is not None:
                        yield json.loads(content.read()), pictures[stem]
    except NotFoundError:
        return  # swept since it was listed
    except (OSError, tarfile.TarError, ValueError) as error:
        raise RetryableError(
            f"{key} could not be searched: {error}", remedy="free the disk of GROUNDLAKE_SCRATCH, then run it again"
        ) from error
