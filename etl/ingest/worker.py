"""The process that runs img2dataset over one shard: ``python -m etl.ingest.worker JOB.json``.

It is a process of its own because img2dataset changes process-wide state, leaves children behind when it is stopped,
and fetches what strangers list. Its pool's children import this module again as ``__mp_main__``, so what protects a
download is set up when the module is imported.
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import asdict, dataclass
from pathlib import Path

from etl.ingest.addresses import forbid_private_addresses
from etl.ingest.fetch import install
from etl.ingest.parent import exit_with_parent


@dataclass(frozen=True)
class Job:
    """One shard's download.

    Attributes:
        urls: Parquet file with the column ``url``.
        output: Folder img2dataset writes ``00000.tar``, ``00000.parquet`` and ``00000_stats.json`` to.
        notes: File for one JSON line per request.
        count: Urls in the file, at least 1.
        threads: Parallel requests.
        timeout: Seconds per request.
        retries: Further requests for a url that failed.
        max_bytes: Length above which an answer is refused.
        allow_private_addresses: Whether loopback and private networks may be reached.
        parent: The process that waits for it; gone, the worker and its children end.
    """

    urls: str
    output: str
    notes: str
    count: int
    threads: int
    timeout: int
    retries: int
    max_bytes: int
    allow_private_addresses: bool
    parent: int

    def write(self, path: Path) -> None:
        """Store the job as JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Job:
        """The job of ``write``."""
        return cls(**json.loads(path.read_text()))


def _prepare() -> Job:
    job = Job.read(Path(sys.argv[1]))  # spawned children get the same arguments before they import this module
    # The children's parent is the worker, which may have lost its own before it got here.
    exit_with_parent(group=True, parent=job.parent if __name__ == "__main__" else None)
    if not job.allow_private_addresses:
        forbid_private_addresses()
    install(Path(job.notes), job.max_bytes, proxies=job.allow_private_addresses)
    # img2dataset imports these and uses none of them here, where it neither resizes nor reports: 5.5 of the 7 s that
    # each of its three processes needs to start. (wandb phones home, albumentations asks for updates.)
    sys.modules["torch"] = None  # type: ignore[assignment]
    for name in ("wandb", "albumentations"):
        sys.modules[name] = types.ModuleType(name)
    return job


def _run(job: Job) -> None:
    import img2dataset

    img2dataset.download(
        url_list=job.urls,
        input_format="parquet",
        url_col="url",
        output_folder=job.output,
        output_format="webdataset",
        number_sample_per_shard=job.count,  # exactly one tar; the key of a sample is its row number
        processes_count=1,
        thread_count=min(job.threads, job.count),
        timeout=job.timeout,
        retries=job.retries,
        disable_all_reencoding=True,  # the bytes as served
        compute_hash="sha256",
        extract_exif=False,
        enable_wandb=False,
    )


if __name__ in ("__main__", "__mp_main__"):
    _job = _prepare()
if __name__ == "__main__":
    _run(_job)
