"""Questions asked part by part."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import image, row

from etl.lake import Lake, Snapshot
from etl.lake.engine import listed
from etl.lake.parting import parts


def test_tables_made_of_many_small_files_meanwhile_need_little_memory(lake: Lake, tmp_path: Path) -> None:
    """With the order of rows kept, DuckDB buffers each file's, and these did not fit."""
    files = [tmp_path / f"{number}.parquet" for number in range(300)]
    for file in files:
        pq.write_table(pa.table({"image_id": [file.stem * 8] * 3, "unit": [file.stem * 8] * 3}), file)
    with Snapshot.take(lake).connect() as connection:
        for _ in parts(connection):
            connection.execute("set memory_limit='16MB'")
            connection.execute(f"create temp table made as select * from read_parquet({listed(map(str, files))})")
            assert connection.execute("select count(*) from made").fetchone() == (900,)


def test_each_image_shows_once_however_often_one_connection_is_shown_parts(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.lake.parting._number", lambda connection: 3)
    names = [image(digit) for digit in "0123456789abcdef"]
    lake.append("images", [row("images", image_id=name) for name in names], "images")
    query = "select image_id from raw.images order by all"
    with Snapshot.take(lake).connect() as connection:
        for _ in range(2):
            shown = [[name for (name,) in connection.execute(query).fetchall()] for _ in parts(connection)]
            assert [len(part) for part in shown] == [6, 5, 5]
            assert [name for part in shown for name in part] == names
            assert connection.execute(query).fetchall() == [(name,) for name in names]
