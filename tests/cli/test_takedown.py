"""``groundlake takedown``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forgetting import fill, traces
from handmade import Handmade

from etl.lake import Lake
from etl.manifests.builder import build_manifest
from etl.settings import ManifestSpec

Command = Callable[..., Any]


@pytest.fixture
def hand(lake: Lake) -> Handmade:
    return fill(lake, 1)


def test_a_picture_is_looked_at_taken_down_and_purged(groundlake: Command, hand: Handmade, monkeypatch: Any) -> None:
    lake, image = hand.lake, hand.ids[1]
    spec = ManifestSpec(name="all", sql="select image_id from images", format="jsonl", options={"pictures": True})
    inside = build_manifest(lake, spec)
    given = ("--image-id", image, "--reason", "asked by its owner", "--lake", lake.uri)

    ran = groundlake("takedown", "add", *given, "--dry-run")
    assert (ran.code, "nothing was changed" in ran.out) == (0, True)
    assert "1 images in 1 stored copies" in ran.out
    assert f"manifest {inside.folder} holds 1 of them; the purge removes it" in ran.out
    assert "groundlake manifest build --name all --format jsonl --sql 'select image_id from images'" in ran.out
    assert groundlake("takedown", "list", "--lake", lake.uri).out == "nothing was taken down\n"

    ran = groundlake("takedown", "add", *given, "--yes")
    assert (ran.code, "hidden from now on" in ran.out, ": rewritten;" in ran.out) == (0, True, True)
    assert inside.folder.is_dir()
    (found,) = json.loads(groundlake("takedown", "list", "--json", "--lake", lake.uri).out)
    assert (found["state"], found["reason"]) == ("rewritten", "asked by its owner")
    assert found["events"]["requested"]["asked"] == {"image_id": 1}
    assert found["events"]["rewritten"]["rows"]["captions"] == 3
    ran = groundlake("takedown", "status", found["takedown_id"][:6], "--lake", lake.uri)
    assert ("rewritten, 2 tombstones" in ran.out, str(inside.folder) in ran.out) == (True, True)

    monkeypatch.setenv("GROUNDLAKE_PURGE_HOURS", "0")
    assert ": purged;" in groundlake("takedown", "purge", "--lake", lake.uri).out
    assert traces(lake, image, b"no bytes to look for", []) == []
    assert not inside.folder.exists()
    again = build_manifest(lake, spec)
    assert (again.images, again.lock["selection"]["taken_down_in_lake"]) == (2, 1)
    assert groundlake("takedown", "purge", "--lake", lake.uri).out == "no takedown is pending\n"


def test_a_list_of_what_nobody_knows_is_kept_out_all_the_same(groundlake: Command, lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"https://example.org/a.jpg\n{'ab' * 32}\n")
    ran = groundlake("takedown", "add", "--list", file, "--reason", "why", "--yes", "--later", "--lake", lake.uri)
    assert (ran.code, ran.out.count("it will not be let in")) == (0, 2)
    kinds = sorted(lake.table("takedowns").to_pyarrow_table()["kind"].to_pylist())
    assert kinds == ["image_id", "source_sha256", "url_sha256"]
    assert "requested" in groundlake("takedown", "list", "--lake", lake.uri).out


@pytest.mark.parametrize(
    ("given", "code", "part"),
    [
        (("--url", "nonsense", "--yes"), 65, "expected a http or https url"),
        (("--yes",), 65, "nothing to take down"),
        (("--image-id", "ab" * 16), 78, "--dry-run"),  # nobody is here to confirm it
    ],
)
def test_nonsense_and_haste_are_refused(
    groundlake: Command, lake: Lake, given: tuple[str, ...], code: int, part: str
) -> None:
    ran = groundlake("takedown", "add", *given, "--reason", "why", "--lake", lake.uri)
    assert (ran.code, part in ran.err) == (code, True)
    assert lake.table("takedowns").version() == 0


def test_an_unknown_takedown_is_named(groundlake: Command, lake: Lake) -> None:
    ran = groundlake("takedown", "status", "0f3a", "--lake", lake.uri)
    assert (ran.code, "unknown takedown" in ran.err) == (78, True)
