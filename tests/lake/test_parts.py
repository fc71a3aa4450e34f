"""Parts: validated before they are named, with the statistics readers skip by."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from rows import image, rows

from etl.lake import Lake
from etl.lake.constraints import ConstraintError
from etl.lake.parts import Part, add_action, table_key, write_part
from etl.storage import LocalStore, StorageError

A, B, C = (image(name) for name in "abc")
DATA = rows("tags", {"image_id": B, "shard_id": "s"}, {"image_id": A, "shard_id": "s"})


def written(lake: Lake, part: Part) -> str:
    assert isinstance(lake.store, LocalStore)
    return str(lake.store.path(f"{table_key(part.table)}/{part.path}"))


def test_a_part_lies_in_its_table_sorted_and_compressed(lake: Lake) -> None:
    part = write_part(lake.store, "tags", DATA, "unit", "00007")
    assert part.path.startswith("parts/unit/00007-")
    file = pq.ParquetFile(written(lake, part))
    assert file.read()["image_id"].to_pylist() == [A, B]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_vacuum_could_reach_every_part(lake: Lake) -> None:
    path = write_part(lake.store, "tags", DATA, "unit", "00000").path
    assert not any(folder.startswith(("_", ".")) for folder in path.split("/"))
    assert "%" not in path


def test_two_attempts_at_a_slice_get_two_names(lake: Lake) -> None:
    assert len({write_part(lake.store, "tags", DATA, "unit", "00000").path for _ in range(2)}) == 2


def test_statistics_cover_the_columns_the_table_promises(lake: Lake) -> None:
    stats = json.loads(write_part(lake.store, "tags", DATA, "unit", "00000").stats)
    assert stats["numRecords"] == 2
    assert stats["minValues"] == {"image_id": A, "shard_id": "s", "annotator_id": "x"}
    assert stats["maxValues"] == {"image_id": B, "shard_id": "s", "annotator_id": "x"}
    assert stats["nullCount"] == {"image_id": 0, "shard_id": 0, "annotator_id": 0}


def test_a_column_of_nulls_has_no_extremes(lake: Lake) -> None:
    part = write_part(lake.store, "downloads", rows("downloads", {"image_id": None}), "unit", "00000")
    stats = json.loads(part.stats)
    assert stats["nullCount"]["image_id"] == 1
    assert "image_id" not in stats["minValues"]


def test_a_pruning_reader_finds_what_the_statistics_say(lake: Lake) -> None:
    for one in (A, B, C):
        lake.append("tags", rows("tags", {"image_id": one}).to_pylist(), one)
    table = lake.table("tags")
    assert table.to_pyarrow_table(filters=[("image_id", ">=", B)]).num_rows == 2
    assert table.count() == 3


def test_a_row_that_breaks_a_rule_writes_nothing(lake: Lake) -> None:
    with pytest.raises(ConstraintError):
        write_part(lake.store, "outcomes", rows("outcomes", {"status": "perhaps"}), "unit", "00000")
    assert not list(lake.store.list("tables/outcomes/parts/"))


def test_a_part_of_another_size_is_never_committed(lake: Lake) -> None:
    part = write_part(lake.store, "tags", DATA, "unit", "00000")
    lake.store.put(f"{table_key('tags')}/{part.path}", b"cut")
    with pytest.raises(StorageError, match=r"bytes expected, 3 bytes there"):
        add_action(lake.store, part)


def test_a_part_survives_its_record(lake: Lake) -> None:
    part = write_part(lake.store, "tags", DATA, "unit", "00000")
    assert Part.from_json(json.loads(json.dumps(part.to_json()))) == part
