"""Url lists of every kind, and what is wrong with those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import DataError
from etl.ingest.lists import read_list, url_problem

ROWS = [("http://a.example/1.jpg", "one, two"), ("http://a.example/2.jpg", 'a "quoted"\nline'), ("http://b/3", None)]


def write(path: Path, rows: list[tuple[str | None, str | None]]) -> Path:
    """A list of the kind of the path's suffix, with the columns link and text."""
    if path.suffix == ".parquet":
        pq.write_table(
            pa.table({"n": range(len(rows)), "link": [r[0] for r in rows], "text": [r[1] for r in rows]}), path
        )
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"link": link, "text": text}) for link, text in rows) + "\n")
    elif path.suffix == ".txt":
        path.write_text("\n".join(link or "" for link, _ in rows) + "\n")
    else:
        separator = "," if path.suffix == ".csv" else "\t"
        lines = [f"n{separator}link{separator}text"]
        for link, text in rows:
            quoted = '"' + (text or "").replace('"', '""') + '"'
            lines.append(separator.join(("0", link or "", quoted)))
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl"])
def test_a_list_keeps_urls_and_captions_in_order(tmp_path: Path, kind: str) -> None:
    found = read_list(write(tmp_path / f"list.{kind}", ROWS), "link", "text")
    assert found.rows["url"].to_pylist() == [url for url, _ in ROWS]
    assert [caption or None for caption in found.rows["caption"].to_pylist()] == [caption for _, caption in ROWS]


def test_a_text_list_is_one_url_a_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("http://a/1\r\n\n  http://a/2  \n")
    assert read_list(path).rows["url"].to_pylist() == ["http://a/1", "http://a/2"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_repeated_url_is_one_with_its_first_caption_and_is_counted(tmp_path: Path, kind: str) -> None:
    rows = [("http://a/1", "first"), ("http://a/2", "other"), ("http://a/1", "second"), ("http://a/1", "third")]
    found = read_list(write(tmp_path / f"list.{kind}", rows), "link", "text")
    assert found.rows.to_pylist() == [
        {"url": "http://a/1", "caption": "first"},
        {"url": "http://a/2", "caption": "other"},
    ]
    assert found.duplicates == 2


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_missing_url_stays_in_the_list(tmp_path: Path, kind: str) -> None:
    found = read_list(write(tmp_path / f"list.{kind}", [("http://a/1", "x"), (None, "y")]), "link", "text")
    assert found.rows["url"].to_pylist() == ["http://a/1", ""]


def test_a_url_column_of_numbers_is_read_as_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": [1, 2]}), tmp_path / "list.parquet")
    assert read_list(tmp_path / "list.parquet").rows["url"].to_pylist() == ["1", "2"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl"])
def test_a_missing_column_is_named_with_the_columns_there_are(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"list.{kind}", ROWS)
    with pytest.raises(DataError, match=r"no column 'url'; its columns are: .*link, .*text") as caught:
        read_list(path)
    assert "--url-col" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.csv", None, "does not exist"),
        ("list.xlsx", b"", r"unknown kind of list '.xlsx'; known: .parquet"),
        ("list.parquet", b"not parquet at all", "cannot be read"),
        ("list.parquet", b"PAR1 cut", "cannot be read"),
        ("list.csv", b"", "cannot be read"),
        ("list.csv", b"url\n", "holds no urls"),
        ("list.csv", b"url,caption\nhttp://a/1,x\nhttp://a/2\n", "cannot be read"),
        ("list.csv", b"url\nhttp://a/\xff\xfe\n", "cannot be read"),
        ("list.txt", b"\n \n", "holds no urls"),
        ("list.txt", b"http://a/\xff\n", "cannot be read"),
        ("list.jsonl", b"", "holds no urls"),
        ("list.jsonl", b'{"url": "http://a/1"}\n{"url": \n', "line 2, is not JSON"),
        ("list.jsonl", b'["http://a/1"]\n', "line 1: expected a JSON mapping, got list"),
    ],
)
def test_a_bad_list_is_refused_with_its_reason(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_list(tmp_path / name)


def test_a_folder_is_not_a_list(tmp_path: Path) -> None:
    (tmp_path / "list.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read_list(tmp_path / "list.csv")


def test_a_text_list_has_no_captions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no captions"):
        read_list(write(tmp_path / "list.txt", ROWS), "link", "text")


@pytest.mark.parametrize(
    "url",
    [
        "", "not a url", "/etc/passwd", "ftp://a/1.jpg", "file:///etc/passwd", "data:image/png;base64,AAAA", "http://",
        "http:///1.jpg", "http://a:99999/1.jpg", "http://a:0/", "http://[::1/1.jpg", "http://a/\n1.jpg", "javascript:x",
        "http://a/" + "x" * 9000,
    ],
)  # fmt: skip
def test_what_is_not_a_web_address_is_a_bad_url(url: str) -> None:
    assert url_problem(url) is not None


@pytest.mark.parametrize(
    "url", ["http://a/1.jpg", "HTTPS://A.example:8443/a b.jpg?x=1#y", "http://[::1]:80/1", "http://münchen.de/ü.jpg"]
)
def test_a_web_address_is_not_a_bad_url(url: str) -> None:
    assert url_problem(url) is None


def test_a_million_rows_are_read_in_seconds(tmp_path: Path) -> None:
    urls = [f"http://host{n % 97}.example/{n}.jpg" for n in range(1_000_000)]
    pq.write_table(pa.table({"url": urls}), tmp_path / "list.parquet", row_group_size=100_000)
    assert read_list(tmp_path / "list.parquet").rows.num_rows == 1_000_000
