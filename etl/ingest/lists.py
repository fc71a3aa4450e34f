"""Url lists: Parquet, CSV, TSV, JSON lines or plain text, to distinct urls with their captions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from etl.errors import DataError

MAX_URL = 8192
_TEXT = pa.large_string()  # a plain string column of millions of captions would pass 2 GiB


@dataclass(frozen=True)
class UrlList:
    """A list as read.

    Attributes:
        rows: Columns ``url`` (distinct, never null) and ``caption``, large_string, in the order of the list.
        duplicates: Rows dropped because their url came earlier.
    """

    rows: pa.Table
    duplicates: int


def read_list(path: Path, url_column: str = "url", caption_column: str | None = None) -> UrlList:
    """Read a url list; the first caption of a url counts.

    Missing and malformed urls stay in the list (a missing one as the empty string): they end as failed downloads.

    Raises:
        DataError: The file is missing, unreadable, of an unknown kind, lacks a column, or holds no rows.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: unknown kind of list {path.suffix!r}; known: {', '.join(_READERS)}",
            remedy="convert the list; plain text is one url a line",
        )
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise DataError(f"the url list {path} {what}", remedy="correct the path")
    try:
        table = reader(path, url_column, caption_column)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DataError(
            f"the url list {path} cannot be read: {error}", remedy=f"check that it is a whole {path.suffix} file"
        ) from error
    if table.num_rows == 0:
        raise DataError(f"the url list {path} holds no urls", remedy="check the file and --url-col")
    return _distinct(table)


def url_problem(url: str) -> str | None:
    """What is wrong with a url, or None.

    >>> url_problem("https://example.org/a.jpg"), url_problem("ftp://example.org/a.jpg")
    (None, "the scheme is 'ftp', only http and https are fetched")
    """
    if not url:
        return "the url is missing"
    if len(url) > MAX_URL:
        return f"the url is longer than {MAX_URL} characters"
    if not url.isprintable():
        return "the url holds control characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"the url is malformed: {error}"
    if parts.scheme.lower() not in ("http", "https"):
        return f"the scheme is {parts.scheme!r}, only http and https are fetched"
    if not parts.hostname or port == 0:
        return "the url names no host"
    return None


def _distinct(table: pa.Table) -> UrlList:
    urls = pc.utf8_trim_whitespace(pc.fill_null(table["url"], ""))
    table = pa.table({"url": urls, "caption": table["caption"], "row": pa.array(range(table.num_rows), pa.int64())})
    first = table.group_by("url", use_threads=False).aggregate([("row", "min")])["row_min"]
    kept = table.take(pc.take(first, pc.sort_indices(first))).select(["url", "caption"])
    return UrlList(kept, table.num_rows - kept.num_rows)


def _columns(path: Path, known: list[str], url_column: str, caption_column: str | None) -> list[str]:
    wanted = [url_column] + ([caption_column] if caption_column else [])
    for column in wanted:
        if column not in known:
            option = "--url-col" if column == url_column else "--caption-col"
            raise DataError(
                f"{path} has no column {column!r}; its columns are: {', '.join(known) or 'none'}",
                remedy=f"name one of them with {option}, or in the source's file of the catalog",
            )
    return wanted


def _normal(path: Path, table: pa.Table, url_column: str, caption_column: str | None) -> pa.Table:
    captions = table[caption_column] if caption_column else pa.nulls(table.num_rows)
    columns = {}
    for name, values in (("url", table[url_column]), ("caption", captions)):
        try:
            columns[name] = values.cast(_TEXT)
        except pa.ArrowException as error:
            raise DataError(f"{path}: the {name} column has type {values.type}, expected text: {error}") from error
    return pa.table(columns)


def _read_parquet(path: Path, url_column: str, caption_column: str | None) -> pa.Table:
    with pq.ParquetFile(path) as file:
        wanted = _columns(path, file.schema_arrow.names, url_column, caption_column)
        return _normal(path, file.read(columns=wanted), url_column, caption_column)


def _read_csv(path: Path, url_column: str, caption_column: str | None, delimiter: str = ",") -> pa.Table:
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with csv.open_csv(path, parse_options=parse) as head:
        wanted = _columns(path, head.schema.names, url_column, caption_column)
    convert = csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, _TEXT))
    return _normal(path, csv.read_csv(path, parse_options=parse, convert_options=convert), url_column, caption_column)


def _read_tsv(path: Path, url_column: str, caption_column: str | None) -> pa.Table:
    return _read_csv(path, url_column, caption_column, "\t")


def _read_jsonl(path: Path, url_column: str, caption_column: str | None) -> pa.Table:
    known: set[str] = set()
    urls: list[str | None] = []
    captions: list[str | None] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _json_row(path, number, line)
            known |= row.keys()
            urls.append(_text(row.get(url_column)))
            captions.append(_text(row.get(caption_column)) if caption_column else None)
    if urls:
        _columns(path, sorted(known), url_column, caption_column)
    return pa.table({"url": pa.array(urls, _TEXT), "caption": pa.array(captions, _TEXT)})


def _json_row(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}, is not JSON: {error}", remedy="one JSON mapping a line") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: expected a JSON mapping, got {type(row).__name__}")
    return row


def _text(value: object) -> str | None:
    # JSON can spell half of a surrogate pair, which no UTF-8 column holds.
    return None if value is None else str(value).encode(errors="replace").decode()


def _read_text(path: Path, _: str, caption_column: str | None) -> pa.Table:
    if caption_column:
        raise DataError(f"{path}: a text list has no captions", remedy="leave out --caption-col, or use .csv")
    with path.open(encoding="utf-8-sig") as file:
        urls = [line for line in (line.strip() for line in file) if line]
    return pa.table({"url": pa.array(urls, _TEXT), "caption": pa.nulls(len(urls), _TEXT)})


_READERS: dict[str, Callable[[Path, str, str | None], pa.Table]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".txt": _read_text,
}
