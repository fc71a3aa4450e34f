"""What delta-rs says when the place fails, as it said it, and the typed error that each text stands for."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from rows import rows

from etl.errors import ConfigurationError, GroundlakeError
from etl.lake import Lake
from etl.lake.faults import lasting_fault, plain, typed_fault
from etl.lake.guard import append_guarded
from etl.lake.maintenance import compact
from etl.lake.migrations import bring_up
from etl.lake.parts import add_action, write_part
from etl.lake.schemas import TABLES
from etl.settings import Settings
from etl.storage import LastingError, StorageError, open_store

KEY = "0123456789abcdef0123456789abcdef"


def s3_text(status: str, body: str, method: str = "PUT") -> str:
    arrow = "\n          \x1b[31m↳\x1b[0m "
    where = f"Error performing {method} http://127.0.0.1:1/bucket/lake/tables/tags/_delta_log/1.json in 3.7ms"
    return f"Generic S3 error{arrow}{where} - Server returned non-2xx status code{arrow}{status}{arrow}{body}\n"


def disk_text(what: str, number: int) -> str:
    arrow = "\n          \x1b[31m↳\x1b[0m "
    return f"Generic LocalFileSystem error{arrow}Unable to copy data to file{arrow}{what} (os error {number})\n"


def xml(code: str) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<Error><Code>{code}</Code><Message>said so</Message></Error>'


# Texts of delta-rs 1.6 (those of a full and of a read-only disk from a small and a read-only mount), and what each is.
TEXTS = {
    "disk full": (disk_text("No space left on device", 28), LastingError, "disk is full"),
    "quota": (disk_text("Disk quota exceeded", 122), LastingError, "quota"),
    "file too large": (disk_text("File too large", 27), LastingError, "larger than allowed"),
    "read-only": (disk_text("Read-only file system", 30), ConfigurationError, "read-only"),
    "no permission": (disk_text("Permission denied", 13), ConfigurationError, "write access"),
    "open files": (disk_text("Too many open files", 24), StorageError, "ulimit -n"),
    "denied": (s3_text("403 Forbidden", xml("AccessDenied")), ConfigurationError, "may not do this"),
    "denied by a server of few words": (s3_text("403 Forbidden", "no"), ConfigurationError, "may not do this"),
    "unknown key": (s3_text("403 Forbidden", xml("InvalidAccessKeyId")), ConfigurationError, "access key"),
    "wrong secret": (s3_text("403 Forbidden", xml("SignatureDoesNotMatch")), ConfigurationError, "secret key"),
    "no bucket": (s3_text("404 Not Found", xml("NoSuchBucket")), ConfigurationError, "bucket does not exist"),
    "expired": (s3_text("400 Bad Request", xml("ExpiredToken")), LastingError, "log in again"),
    "clock": (s3_text("403 Forbidden", xml("RequestTimeTooSkewed")), LastingError, "correct this machine's clock"),
    "store full": (s3_text("507 Insufficient Storage", xml("XMinioStorageFull")), LastingError, "store is full"),
    "throttled": (s3_text("503 Service Unavailable", xml("SlowDown")), StorageError, "throttles"),
    "another region": (
        "Generic S3 error\n ↳ Received redirect without LOCATION, this normally indicates an incorrectly "
        "configured region",
        ConfigurationError,
        "AWS_REGION",
    ),
}


@pytest.mark.parametrize(("text", "kind", "words"), TEXTS.values(), ids=TEXTS)
def test_a_known_text_is_a_typed_error_with_the_remedy(text: str, kind: type[GroundlakeError], words: str) -> None:
    found = typed_fault(OSError(text), "commit", KEY, "s3://bucket/lake")
    assert type(found) is kind
    assert words in str(found)
    assert f"cannot commit '{KEY}': s3://bucket/lake" in str(found)
    assert "nothing is lost, it resumes" in str(found)
    assert "\x1b" not in str(found)
    lasting = lasting_fault(OSError(text), "commit", KEY)
    assert (lasting is not None) is (kind is not StorageError), "what may pass is waited for"


UNKNOWN = {
    "a conflict": "Commit failed: a concurrent transactions added data. Version 403 Forbidden Planet",
    "an error of the server": s3_text("500 Internal Server Error", xml("InternalError")),
    "a missing object": s3_text("404 Not Found", xml("NoSuchKey")),
    "a reset": "Generic S3 error\n ↳ HTTP error\n ↳ error sending request\n ↳ Connection reset by peer (os error 104)",
    "a firewall": "Generic S3 error\n ↳ HTTP error\n ↳ error sending request\n ↳ Permission denied (os error 13)",
    "a time-out": "Generic S3 error\n ↳ HTTP error\n ↳ error sending request\n ↳ operation timed out",
}


@pytest.mark.parametrize("text", UNKNOWN.values(), ids=UNKNOWN)
def test_what_may_pass_is_no_known_fault(text: str) -> None:
    assert typed_fault(OSError(text), "commit", KEY) is None
    assert lasting_fault(OSError(text), "commit", KEY) is None


def test_colours_lines_and_backtraces_are_taken_out() -> None:
    text = (
        "Kernel error: Json error\n \x1b[31m↳\x1b[0m cut\n   0: <unknown>\n   1: start_thread\n  at ./nptl/x.c:442:8\n"
    )
    assert plain(OSError(text)) == "Kernel error: Json error: cut"


# Faults made for real: what a commit and the opening of a table end with, and that they do so at once.


@pytest.fixture
def s3_lake(
    s3_uri: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, s3_server: str
) -> Iterator[tuple[Lake, FaultProxy]]:
    """A lake with one table, whose commits try for long, and the proxy in front of it."""
    with FaultProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        lake = Lake(open_store(s3_uri), settings.model_copy(update={"commit_deadline": 600.0}))
        bring_up(lake.store, TABLES["tags"], deadline=60)
        yield lake, proxy


REAL = {
    "403 AccessDenied": ConfigurationError,
    "403 RequestTimeTooSkewed": LastingError,
    "400 ExpiredToken": LastingError,
    "404 NoSuchBucket": ConfigurationError,
}


def test_a_store_that_refuses_ends_a_commit_at_once_and_it_can_be_repeated(
    s3_lake: tuple[Lake, FaultProxy],
) -> None:
    lake, proxy = s3_lake
    start = time.monotonic()
    for refusal, kind in REAL.items():
        proxy.rule(refusal, method="PUT", path="_delta_log", times=math.inf)
        with pytest.raises(kind, match=rf"cannot commit '{KEY}'(.|\n)*nothing is lost, it resumes"):
            lake.commit("tags", KEY, [])
        proxy.clear()
        proxy.rule(refusal, times=math.inf)
        with pytest.raises(kind, match=rf"cannot open table 'tags'(.|\n)*{refusal.split()[1]}"):
            lake.table("tags")
        with pytest.raises(kind):
            lake.fence("tags", KEY)
        proxy.clear()
    assert time.monotonic() - start < 60, "far from the deadline"
    assert lake.table("tags").version() == 0
    assert lake.commit("tags", KEY, []) == 1


def test_rewrites_and_guarded_additions_end_at_once_too(s3_lake: tuple[Lake, FaultProxy]) -> None:
    lake, proxy = s3_lake
    parts = [write_part(lake.store, "tags", rows("tags", {}), KEY, f"{n:05d}") for n in range(2)]
    lake.commit("tags", KEY, [add_action(lake.store, part) for part in parts])
    proxy.rule("400 ExpiredToken", method="PUT", path="_delta_log", times=2)
    with pytest.raises(LastingError, match=r"cannot rewrite 'tags'(.|\n)*have expired"):
        compact(lake, "tags")
    with pytest.raises(LastingError, match=r"cannot add to table 'tags'(.|\n)*have expired"):
        append_guarded(lake, "tags", lake.table("tags"), [], guards=["kind"], key="other")
    assert lake.table("tags").version() == 1


_ON_A_BAD_DISK = """
import json, os, resource, sys
from pathlib import Path
import deltalake.transaction
from etl.errors import GroundlakeError
from etl.lake import Lake
from etl.settings import Settings
uri, fault = sys.argv[1:]
lake = Lake.open(uri, Settings(commit_deadline=600))
lake.table("tags").transaction_version("x")
if fault == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
elif os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
said = []
for operation in (
    lambda: lake.store.put("some/key", bytes(200)),
    lambda: lake.commit("tags", "unit", []),
    lambda: lake.fence("tags", "unit"),
):
    try:
        operation()
    except GroundlakeError as error:
        said.append([type(error).__name__, str(error)])
print(json.dumps(said))
"""


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [("full", "LastingError", "larger than allowed"), ("forbidden", "ConfigurationError", "this user may not do this")],
)
def test_a_disk_that_takes_nothing_ends_a_commit_at_once(settings: Settings, fault: str, kind: str, words: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.create(f"{folder}/lake", settings)
        folders = [Path(folder), *(path for path in Path(folder).rglob("*") if path.is_dir())]
        for one in folders:
            one.chmod(0o555)
        command = [sys.executable, "-c", _ON_A_BAD_DISK, lake.uri, fault]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        for one in folders:
            one.chmod(0o755)
        said = json.loads(done.stdout)
        assert [name for name, _ in said] == [kind] * 3
        assert all(words in text and "nothing is lost, it resumes" in text for _, text in said)
        assert lake.table("tags").version() == 0
        assert not [path for path in Path(folder).rglob("*") if path.name.startswith(".tmp-")]
        assert lake.commit("tags", "unit", []) == 1
