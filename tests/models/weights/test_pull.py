"""A pull ends with weights in the lake, whatever the line, the server and the operating system do."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from weights_server import break_after, slowly, status

from etl.errors import DataError, RetryableError
from etl.models.load import materialise
from etl.models.weights import partial
from etl.models.weights.errors import NoRoomError, RefusedDownloadError, WrongDigestError
from etl.models.weights.pull import pull

pytestmark = pytest.mark.usefixtures("converter")


@pytest.fixture
def fetch(models, tmp_path):
    """Pull an entry without waiting between tries."""
    return lambda entry: pull(models, entry, tmp_path / "scratch", lambda *_: None, pause=lambda _: None)


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "scratch").rglob("*") if not path.name.endswith(".lock"))


def test_weights_come_into_the_lake_and_nothing_stays_behind(fetch, models, entry, tmp_path):
    added = fetch(entry)
    assert models.weights_digest(entry.network) == added.digest
    assert materialise(models, entry.network).is_dir()
    assert left(tmp_path) == []


def test_files_that_have_arrived_are_not_fetched_again(fetch, server, entry_of, content):
    server.publish("/tags.txt", b"dog\ncat\n")
    server.behave("/tags.txt", break_after(0), *[status(500)] * 7)
    entry = entry_of("sam.pth", "tags.txt")
    with pytest.raises(RetryableError, match="what has arrived is kept"):
        fetch(entry)
    before = len(server.ranges("/sam.pth"))
    fetch(entry)
    sizes_only = server.ranges("/sam.pth")[before:]
    assert sizes_only == []


def test_a_file_that_is_not_there_is_noticed_before_another_is_fetched(fetch, server, entry_of, tmp_path):
    with pytest.raises(RefusedDownloadError, match=r"none\.txt: there is no such file"):
        fetch(entry_of("sam.pth", "none.txt"))
    assert not list(tmp_path.rglob("*.pth*"))


def test_a_server_that_does_not_answer_is_asked_for_one_length_only(fetch, server, entry_of):
    server.publish("/tags.txt", b"dog")
    server.behave("/sam.pth", status(503))
    fetch(entry_of("sam.pth", "tags.txt"))
    assert len(server.ranges("/tags.txt")) == 1


def test_what_was_recorded_first_is_enforced_from_then_on(fetch, server, entry, content):
    fetch(entry)
    server.publish("/sam.pth", content[::-1])
    with pytest.raises(WrongDigestError, match="the one added first has"):
        fetch(entry)


def test_the_same_again_mends_what_was_damaged(fetch, models, entry, tmp_path):
    digest = fetch(entry).digest
    (tmp_path / "lake" / "models" / "sam" / digest / "config.json").unlink()
    fetch(entry)
    assert materialise(models, entry.network).is_dir()


def test_files_of_another_revision_are_never_gone_on_with(fetch, server, entry, entry_of, content):
    server.publish("/new/sam.pth", content[::-1])
    server.behave("/sam.pth", *[break_after(10)] + [status(404)] * 2)
    with pytest.raises(RefusedDownloadError):
        fetch(entry)
    moved = entry_of(files=[{"name": "sam.pth", "url": server.url("/new/sam.pth")}])
    fetch(moved)
    assert server.ranges("/new/sam.pth") == [None, None]


@pytest.mark.parametrize("pinned", [False, True], ids=["unknown", "pinned"])
def test_what_cannot_be_converted_is_fetched_anew_unless_it_is_the_pinned_file(
    fetch, server, entry, converter, tmp_path, content, pinned
):
    def refuses(*_: object) -> None:
        raise DataError("this is no checkpoint")

    converter.convert = refuses
    sha256 = hashlib.sha256(content).hexdigest() if pinned else None
    file = entry.files[0].model_copy(update={"sha256": sha256})
    with pytest.raises(DataError, match="this is no checkpoint"):
        fetch(entry.model_copy(update={"files": (file,)}))
    assert [path.name for path in tmp_path.rglob("*.pth")] == (["sam.pth"] if pinned else [])


def test_no_room_is_said_before_the_first_byte(fetch, entry, tmp_path, monkeypatch):
    monkeypatch.setattr(partial, "MARGIN", 1 << 60)
    with pytest.raises(NoRoomError, match="pulling sam-mine needs"):
        fetch(entry)


def test_a_second_pull_of_the_same_is_told_of_the_first(fetch, entry, tmp_path):
    fetch(entry)
    lock = next((tmp_path / "scratch").glob("*.lock"))
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RetryableError, match="another process pulls sam-mine"):
            fetch(entry)


def test_a_pull_that_is_killed_is_gone_on_with(fetch, server, entry, tmp_path, content):
    server.behave("/sam.pth", status(503), slowly(30_000, 5.0))  # the first only asks for the length
    code = f"""
from pathlib import Path
from real_models import model_store
from etl.models.weights.pull import pull
from etl.settings import WeightsEntry
entry = WeightsEntry.model_validate_json({entry.model_dump_json()!r})
pull(model_store(Path({str(tmp_path)!r})), entry, Path({str(tmp_path / "scratch")!r}), lambda *_: None)
"""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    deadline = time.monotonic() + 60
    while not [part for part in tmp_path.rglob("*.part") if part.stat().st_size] and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    fetch(entry)
    assert server.ranges("/sam.pth")[-1] == "bytes=30000-"


def test_torch_is_not_needed_to_download():
    code = "import sys, etl.models.weights.pull, etl.models.weights.verify; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
