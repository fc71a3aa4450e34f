"""DuckDB as the lake sets it up."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from etl.lake.engine import listed, set_up


def test_a_table_made_of_many_small_files_needs_little_memory(tmp_path: Path) -> None:
    """With the order of rows kept, DuckDB buffers each file's, and these did not fit."""
    files = [tmp_path / f"{number}.parquet" for number in range(300)]
    for file in files:
        pq.write_table(pa.table({"image_id": [file.stem * 8] * 3, "unit": [file.stem * 8] * 3}), file)
    with duckdb.connect() as connection:
        set_up(connection, memory="16MB", spill=tmp_path / "spill", s3=None)
        source = f"read_parquet({listed(map(str, files))})"
        connection.execute(f"create temp table made as select * from {source}")
        assert connection.execute("select count(*) from made").fetchone() == (900,)
