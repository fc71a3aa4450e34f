"""What may be asked for, and how a list is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.lake.ids import url_digest
from etl.lake.takedown import Request, Target, TargetError, Tombstone, read_targets, target

ID, SHA, URL = "ab" * 16, "cd" * 32, "https://example.org/a,b.jpg?c=d"


def test_a_list_holds_one_target_a_line_whose_kind_is_detected_or_named(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    lines = [
        "\ufeff# asked on Monday",
        "",
        f"  {ID.upper()} ",
        SHA,
        URL,
        f"url,{URL}2",
        f"image-id, {ID}",
        f"sha256,{SHA}",
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    expected = [("image_id", ID), ("sha256", SHA), ("url", URL), ("url", f"{URL}2"), ("image_id", ID), ("sha256", SHA)]
    assert read_targets(file) == [Target(kind, value) for kind, value in expected]


@pytest.mark.parametrize(
    "line",
    ["nonsense", "ab" * 15, "zz" * 16, "ftp://example.org/a.jpg", "https://", "image_id,https://a.b/", "url,x y"],
)
def test_a_line_of_nonsense_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"{ID}\n\n{line}\n")
    with pytest.raises(TargetError, match="line 3") as caught:
        read_targets(file)
    assert "expected" in (caught.value.remedy or "")


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"none\.txt"):
        read_targets(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Target("url", URL), {Tombstone("url_sha256", url_digest(URL))}),
        (Target("image_id", ID), {Tombstone("image_id", ID)}),
        (Target("sha256", SHA), {Tombstone("image_id", SHA[:32]), Tombstone("source_sha256", SHA)}),
    ],
)
def test_each_kind_has_its_tombstones(given: Target, expected: set[Tombstone]) -> None:
    assert set(given.tombstones) == expected


def test_the_same_request_is_the_same_takedown_in_whatever_order_it_is_given() -> None:
    one, other = target("image_id", ID), target("url", URL)
    assert Request.of([one, other, one], " why ").takedown_id == Request.of([other, one], "why").takedown_id
    assert Request.of([one], "why").takedown_id != Request.of([one], "another reason").takedown_id


@pytest.mark.parametrize(("targets", "reason"), [([], "why"), ([Target("image_id", ID)], "  ")])
def test_a_request_needs_a_target_and_a_reason(targets: list[Target], reason: str) -> None:
    with pytest.raises(TargetError):
        Request.of(targets, reason)
