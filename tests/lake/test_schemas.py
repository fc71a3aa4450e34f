"""The tables: every column explained, of a type all Delta readers share, on the lowest protocol."""

from __future__ import annotations

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from rows import rows

from etl.lake import Lake
from etl.lake.schemas import TABLES, TIME

SHARED = {pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), TIME}


def leaves(type_: pa.DataType) -> list[pa.DataType]:
    """The types that hold values, inside lists and structs."""
    if pa.types.is_list(type_):
        return leaves(type_.value_type)
    if pa.types.is_struct(type_):
        return [leaf for field in type_ for leaf in leaves(field.type)]
    return [type_]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_explains_itself(table: object) -> None:
    assert table.row
    assert all(column.doc for column in table.columns)
    assert len({column.name for column in table.columns}) == len(table.columns)
    assert set(table.sort) <= set(table.schema.names)
    assert {leaf for column in table.columns for leaf in leaves(column.type)} <= SHARED


@pytest.mark.parametrize("name", ["tags", "instances", "captions", "embeddings", "outcomes"])
def test_what_a_stage_writes_names_its_unit_and_annotator(name: str) -> None:
    assert {"unit", "annotator_id"} <= set(TABLES[name].schema.names)


@pytest.mark.parametrize("name", TABLES)
def test_a_created_table_keeps_schema_history_and_statistics(lake: Lake, name: str) -> None:
    table: DeltaTable = lake.table(name)
    stored = pa.schema(table.schema())
    assert stored.names == TABLES[name].schema.names
    assert [field.nullable for field in stored] == [field.nullable for field in TABLES[name].schema]
    assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
    properties = table.metadata().configuration
    assert properties["delta.enableExpiredLogCleanup"] == "false"
    assert properties["delta.logRetentionDuration"] == "interval 36500 days"
    assert properties["delta.checkpointInterval"] == "10"
    assert set(properties["delta.dataSkippingStatsColumns"].split(",")) <= set(TABLES[name].schema.names)


@pytest.mark.parametrize("name", TABLES)
def test_a_row_comes_back_as_it_was_written(lake: Lake, name: str) -> None:
    data = rows(name, {})
    lake.append(name, data.to_pylist(), "unit")
    assert lake.table(name).to_pyarrow_table().to_pylist() == data.to_pylist()
