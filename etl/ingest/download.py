"""Run img2dataset over the urls of a shard, and trust nothing it does not prove.

img2dataset exits with 0 whatever happens, and a full disk makes it drop samples with a line on its output only. So
every url must have its row, and every picture its bytes in the tar, or the download did not happen.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import ConfigurationError, RetryableError
from etl.ingest.failures import classify_message
from etl.ingest.worker import Job
from etl.settings.catalog import Download

Progress = Callable[[int, int], None]
_POLL = 0.2
_NAME = "00000"  # img2dataset's first and only shard
_LOG_LINES = 12


@dataclass(frozen=True)
class Fetched:
    """What became of one url.

    Attributes:
        member: Name of the tar member with the bytes; None when the url failed.
        sha256: Digest of the bytes; None when the url failed.
        error_class: See ``etl.ingest.failures``; None when bytes came.
        error: The error in words.
        http_status: Status of the last answer, if there was one.
        received: Bytes received.
    """

    member: str | None
    sha256: str | None
    error_class: str | None
    error: str | None
    http_status: int | None
    received: int | None


def download(urls: Sequence[str], settings: Download, folder: Path, progress: Progress) -> tuple[Path, list[Fetched]]:
    """Fetch ``urls`` with img2dataset.

    Args:
        urls: At least one http or https url.
        settings: The source's download settings.
        folder: A private, empty folder.
        progress: Called with the number of finished urls and of all urls.

    Returns:
        The tar, and what became of each url, in the order of ``urls``.

    Raises:
        RetryableError: img2dataset crashed, hung or lost urls; a disk is full. Nothing of it may be used.
        ConfigurationError: img2dataset is not installed.
    """
    if importlib.util.find_spec("img2dataset") is None:
        raise ConfigurationError("img2dataset is not installed", remedy="pip install 'groundlake[ingest]'")
    job = _job(len(urls), settings, folder)
    pq.write_table(pa.table({"url": pa.array(urls, pa.string())}), job.urls)
    job.write(folder / "job.json")
    output = Path(job.output)
    log: deque[bytes] = deque(maxlen=_LOG_LINES)
    try:
        code = _run(job, folder / "job.json", log, progress)
        if code != 0:
            raise RetryableError(f"img2dataset ended with exit code {code}")
        return output / f"{_NAME}.tar", _read_rows(urls, output, Path(job.notes))
    except RetryableError as error:
        tail = b"".join(log).decode(errors="replace").strip()
        raise RetryableError(
            f"{error.message}; its output ends with:\n{tail}",
            remedy=f"check memory and the disk of {folder.parent}, then run it again: nothing was stored",
        ) from error


def _job(count: int, settings: Download, folder: Path) -> Job:
    return Job(
        urls=str(folder / "urls.parquet"),
        output=str(folder / "output"),
        notes=str(folder / "requests.jsonl"),
        count=count,
        threads=settings.threads,
        timeout=settings.timeout,
        retries=settings.retries,
        max_bytes=settings.max_bytes,
        allow_private_addresses=settings.allow_private_addresses,
        parent=os.getpid(),
    )


def _run(job: Job, job_file: Path, log: deque[bytes], progress: Progress) -> int:
    process = subprocess.Popen(  # noqa: S603 - our own module and interpreter
        [sys.executable, "-m", "etl.ingest.worker", str(job_file)],
        stdin=subprocess.DEVNULL,
        # Not a file: on a full disk a line of output would fail, and img2dataset then hangs.
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # so that its children can be killed with it
    )
    reader = threading.Thread(target=lambda: log.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        return _wait(process, job, progress)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()  # ends with the last of the worker's processes


def _wait(process: subprocess.Popen[bytes], job: Job, progress: Progress) -> int:
    patience = _patience(job)
    seen, done, last = 0, set[str](), time.monotonic()
    while process.poll() is None:
        time.sleep(_POLL)
        lines, seen = _new_lines(Path(job.notes), seen)
        if lines:
            done.update(line["url"] for line in lines)
            last = time.monotonic()
            progress(min(len(done), job.count), job.count)
        elif time.monotonic() - last > patience:
            raise RetryableError(f"img2dataset did nothing for {patience} s")
    return process.returncode


def _patience(job: Job) -> float:
    """Seconds of silence that mean it hangs: far more than a url with ten slow redirects, and a slow start, take."""
    return 180 + 40 * job.timeout


def _new_lines(notes: Path, seen: int) -> tuple[list[dict[str, Any]], int]:
    """Whole lines after byte ``seen``, and where they end."""
    if not notes.exists():
        return [], seen
    with notes.open("rb") as file:
        file.seek(seen)
        data = file.read()
    data = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in data.splitlines()], seen + len(data)


def _read_rows(urls: Sequence[str], output: Path, notes: Path) -> list[Fetched]:
    for name in (f"{_NAME}_stats.json", f"{_NAME}.parquet", f"{_NAME}.tar"):
        if not (output / name).is_file():
            raise RetryableError(f"img2dataset wrote no {name}")
    try:
        table = pq.read_table(output / f"{_NAME}.parquet", columns=["key", "url", "status", "error_message", "sha256"])
    except (pa.ArrowInvalid, OSError) as error:
        raise RetryableError(f"img2dataset's metadata cannot be read: {error}") from error
    noted = {line["url"]: line for line in _new_lines(notes, 0)[0]}  # the last request of a url counts
    rows = {int(row["key"]): row for row in table.to_pylist()}
    lost = [url for number, url in enumerate(urls) if number not in rows or rows[number]["url"] != url]
    if lost:
        raise RetryableError(f"img2dataset lost {len(lost)} of {len(urls)} urls, such as {lost[0]}")
    return [_fetched(rows[number], noted.get(url, {})) for number, url in enumerate(urls)]


def _fetched(row: dict[str, Any], note: dict[str, Any]) -> Fetched:
    status, received = note.get("http_status"), note.get("bytes")
    if row["status"] == "success":
        return Fetched(f"{row['key']}.jpg", row["sha256"], None, None, status, received)
    message = str(row["error_message"] or row["status"])
    # A request that ended well and yet failed was refused by img2dataset (robots); without a note none was made.
    error_class = note.get("error_class") or classify_message(message)
    return Fetched(None, None, error_class, message[:500], status, received)
