"""What killed processes left on this machine goes in time; what somebody may still need stays."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Any

import pytest
import stand_in_converter
from lake_ageing import Killed, age_files, sweep
from weights_server import WeightsServer

from etl.lake import Lake
from etl.models.store import ModelStore
from etl.models.weights import pull as pulling
from etl.settings import WeightsEntry

PULL = "weights/sam-vit-h-0123abcd"


def test_old_scratch_folders_go_and_the_cache_of_models_stays(lake: Lake) -> None:
    scratch = lake.settings.scratch
    old = [
        f"{prefix}-abcd_123" for prefix in ("ingest", "sql", "rewrite", "copy", "models/.build", "models/clip/.copy")
    ]
    for name in [*old, "models/clip/0123", "sql-of-mine"]:
        (scratch / name).mkdir(parents=True)
        (scratch / name / "file").write_bytes(b"12345")
    age_files(scratch, 8)
    (scratch / "ingest-bcde_123").mkdir()
    assert sweep(lake, 0) == {"scratch folders": len(old)}
    left = sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*") if path.is_dir())
    assert left == ["ingest-bcde_123", "models", "models/clip", "models/clip/0123", "sql-of-mine"]


def test_a_scratch_folder_whose_process_lives_stays(lake: Lake) -> None:
    folder = lake.settings.scratch / "stage-abcd_123"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        age_files(lake.settings.scratch, 8)
        assert sweep(lake, 0) == {}
    assert sweep(lake, 0) == {"scratch folders": 1}


def test_what_has_arrived_of_weights_waits_a_week_for_the_next_pull(lake: Lake) -> None:
    scratch = lake.settings.scratch
    for name in (PULL, "weights/convert-abcd_123", "weights/mine"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "some.part").write_bytes(b"12345")
    (scratch / f"{PULL}.lock").touch()
    age_files(scratch, 6)
    assert sweep(lake, 0, days=1) == {"scratch folders": 1}
    assert not (scratch / "weights" / "convert-abcd_123").exists()
    age_files(scratch, 8)
    assert sweep(lake, 0, days=9) == {}
    assert sweep(lake, 0, days=1) == {"scratch folders": 1}
    left = sorted(path.name for path in (scratch / "weights").iterdir())
    assert left == ["mine", "sam-vit-h-0123abcd.lock"]


def test_a_pull_that_lives_keeps_what_has_arrived(lake: Lake) -> None:
    folder = lake.settings.scratch / PULL
    folder.mkdir(parents=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        age_files(lake.settings.scratch, 30)
        assert sweep(lake, 0) == {}
    assert sweep(lake, 0) == {"scratch folders": 1}


def test_the_folders_that_a_killed_pull_leaves_are_those_that_are_swept(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in_converter.install(monkeypatch)
    scratch = lake.settings.scratch / "weights"

    def killed(*_: Any, **__: Any) -> None:
        shutil.copytree(scratch, tmp_path / "left")
        raise Killed

    monkeypatch.setattr(ModelStore, "add", killed)
    with WeightsServer() as server:
        server.publish("/sam.pth", b"numbers" * 100)
        open_ = {"allow_http": True, "allow_private_addresses": True}
        files = [{"name": "sam.pth", "url": server.url("/sam.pth")}]
        entry = WeightsEntry(name="mine", family="sam", licence="MIT", files=files, **open_)
        with pytest.raises(Killed):
            pulling.pull(ModelStore(lake.store, tmp_path / "cache"), entry, scratch, lambda *_: None)
    shutil.rmtree(scratch)
    shutil.copytree(tmp_path / "left", scratch)
    age_files(lake.settings.scratch, 8)
    assert sweep(lake, 0) == {"scratch folders": 2}
