"""Compaction: fewer files, sorted, with the same rows, whatever happens beside it or to it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from lake_ageing import Killed, expected, fill, killed_at, values
from rows import rows

from etl.errors import DataError
from etl.lake import Lake, maintenance
from etl.lake.maintenance.compaction import choose_group
from etl.lake.maintenance.merge import merged
from etl.lake.parts import ROW_GROUP, add_action, write_part


def add_tags(lake: Lake, key: str, shards: list[int], images: int = 40) -> None:
    """One file: ``images`` rows of each shard."""
    content = [
        {"shard_id": f"s{s:03d}", "image_id": f"{n:031d}{key[-1]}", "unit": key} for s in shards for n in range(images)
    ]
    part = write_part(lake.store, "tags", rows("tags", *content), key, "00000")
    lake.commit("tags", key, [add_action(lake.store, part)])


def sorted_rows(lake: Lake, table: str) -> list[dict[str, object]]:
    return sorted(lake.table(table).to_pyarrow_table().to_pylist(), key=str)


def test_compaction_leaves_one_file_with_the_same_rows(lake: Lake) -> None:
    fill(lake, 0, 12)
    told: list[tuple[int, int]] = []
    result = maintenance.compact(lake, "takedowns", tell=lambda *one: told.append(one))
    assert (result.files_before, result.files_after) == (12, 1)
    assert values(lake) == expected(60)
    assert told == [(12, 12)]


def test_compacting_again_changes_nothing(lake: Lake) -> None:
    fill(lake, 0, 3)
    maintenance.compact(lake, "takedowns")
    version = lake.table("takedowns").version()
    maintenance.compact(lake, "takedowns")
    assert lake.table("takedowns").version() == version


def test_an_empty_table_is_left_alone(lake: Lake) -> None:
    assert maintenance.compact(lake, "tags").files_after == 0


def test_files_beyond_the_target_size_are_left_alone(lake: Lake) -> None:
    fill(lake, 0, 6)
    size = max(one.size for one in maintenance.data_files(lake.table("takedowns")))
    result = maintenance.compact(lake, "takedowns", target_bytes=size * 2 + 100)
    assert 1 < result.files_after < 6
    assert values(lake) == expected(30)


def test_neighbours_by_shard_share_a_file() -> None:
    files = [maintenance.DataFile(f"f{n}", 40, 1, f"s{n}") for n in (3, 1, 4, 2)]
    assert [one.path for one in choose_group(files, 100)] == ["f1", "f2"]


def test_a_compacted_file_is_sorted_whatever_shards_its_sources_share(lake: Lake) -> None:
    for n, shards in enumerate([[0, 1, 2], [1], [2, 3], [5], [1, 5], [4]]):
        add_tags(lake, f"u{n}", shards)
    before = sorted_rows(lake, "tags")
    maintenance.compact(lake, "tags")
    [uri] = lake.table("tags").file_uris()
    keys = [(r["shard_id"], r["image_id"]) for r in pq.read_table(uri).to_pylist()]
    assert keys == sorted(keys)
    assert sorted_rows(lake, "tags") == before


def test_large_files_are_merged_a_batch_at_a_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.lake.maintenance.files.BATCH", 10)
    monkeypatch.setattr("etl.lake.maintenance.merge._RUN_BYTES", 0)  # none is small
    for n, shards in enumerate([[0, 1, 2, 3], [2, 3], [0, 3]]):
        add_tags(lake, f"u{n}", shards)
    chunks = list(merged(lake, "tags", maintenance.data_files(lake.table("tags"))))
    assert max(chunk.num_rows for chunk in chunks) <= 30
    whole = pa.concat_tables(chunks)
    assert whole.equals(whole.sort_by([("shard_id", "ascending"), ("image_id", "ascending")]))
    assert whole.num_rows == 320


def test_row_groups_and_statistics_are_those_of_any_other_file(lake: Lake) -> None:
    content = pa.table({"n": range(ROW_GROUP // 2 + 10)})
    base = rows("outcomes", {"unit": "u"})
    for n in range(3):
        ids = pc.binary_join_element_wise(str(n), pc.utf8_lpad(content["n"].cast("string"), 31, "0"), "")
        many = base.take(pa.array([0] * content.num_rows))
        many = many.set_column(many.column_names.index("image_id"), many.field("image_id"), ids)
        part = write_part(lake.store, "outcomes", many, f"u{n}", "00000")
        lake.commit("outcomes", f"u{n}", [add_action(lake.store, part)])
    maintenance.compact(lake, "outcomes")
    [uri] = lake.table("outcomes").file_uris()
    meta = pq.ParquetFile(uri).metadata
    total = 3 * content.num_rows
    assert [meta.row_group(n).num_rows for n in range(meta.num_row_groups)] == [ROW_GROUP, total - ROW_GROUP]
    [entry] = pa.table(lake.table("outcomes").get_add_actions(flatten=True)).to_pylist()
    assert entry["num_records"] == total
    assert (entry["min.image_id"], entry["max.image_id"]) == ("0" * 32, f"2{content.num_rows - 1:031d}")
    assert entry["null_count.image_id"] == 0


def test_compactions_and_appends_at_once_keep_every_row_once(lake: Lake) -> None:
    fill(lake, 0, 15)
    with ThreadPoolExecutor(4) as pool:
        rewrites = [pool.submit(maintenance.compact, lake, "takedowns") for _ in range(3)]
        append = pool.submit(fill, lake, 15, 10)
        for one in (*rewrites, append):
            one.result()
    maintenance.compact(lake, "takedowns")
    assert values(lake) == expected(125)


@pytest.mark.soak
def test_three_processes_that_compact_at_once_never_double_a_row(lake: Lake) -> None:
    fill(lake, 0, 20)
    size = max(one.size for one in maintenance.data_files(lake.table("takedowns")))
    program = (
        "import sys; from etl.lake import Lake, maintenance; from etl.settings import Settings\n"
        "lake = Lake.open(sys.argv[1], Settings()); print('ready', flush=True); sys.stdin.readline()\n"
        "maintenance.compact(lake, 'takedowns', target_bytes=int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, lake.uri, str(size * 4)]
    pods = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for pod in pods:  # all of them are at the line before anyone starts
        assert pod.stdout is not None
        pod.stdout.readline()
    for pod in pods:
        pod.communicate("go\n")
    assert [pod.returncode for pod in pods] == [0, 0, 0]
    assert values(lake) == expected(100)
    assert len(lake.table("takedowns").file_uris()) < 20


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", ["publish", "commit"])
def test_killed_anywhere_it_leaves_every_row_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, place: str, after: bool
) -> None:
    fill(lake, 0, 4)
    owner, method = (lake.store, "publish_file") if place == "publish" else (DeltaTable, "create_write_transaction")
    with killed_at(monkeypatch, owner, method, 1, after=after), pytest.raises(Killed):
        maintenance.compact(lake, "takedowns")
    assert values(lake) == expected(20)
    assert maintenance.compact(lake, "takedowns").files_after == 1
    assert values(lake) == expected(20)
    assert list(lake.settings.scratch.glob("*")) == []


def test_compaction_brings_back_nothing_that_a_takedown_removes_meanwhile(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake, 0, 6)
    real = lake.store.publish_file
    rounds = iter([True])

    def publish(path: Path, key: str) -> None:
        real(path, key)
        if next(rounds, False):  # the compaction has read all rows, and not committed
            take_down(lake, "000003")

    monkeypatch.setattr(lake.store, "publish_file", publish)
    maintenance.compact(lake, "takedowns")
    assert values(lake) == [value for value in expected(30) if value != "000003"]


def test_a_takedown_loses_nothing_to_a_compaction_meanwhile(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake, 0, 6)
    real = lake.store.publish_file
    rounds = iter([True])

    def publish(path: Path, key: str) -> None:
        real(path, key)
        if next(rounds, False):
            maintenance.compact(lake, "takedowns")

    monkeypatch.setattr(lake.store, "publish_file", publish)
    take_down(lake, "000003")
    assert values(lake) == [value for value in expected(30) if value != "000003"]


def test_a_file_with_other_rows_than_the_log_says_stops_it(lake: Lake) -> None:
    fill(lake, 0, 2)
    one, other = (Path(uri) for uri in lake.table("takedowns").file_uris())
    fill(lake, 2, 1, rows=2)
    short = next(Path(u) for u in lake.table("takedowns").file_uris() if Path(u) not in (one, other))
    one.write_bytes(short.read_bytes())
    with pytest.raises(DataError, match="nothing was changed"):
        maintenance.compact(lake, "takedowns")


def test_a_broken_file_stops_it(lake: Lake) -> None:
    fill(lake, 0, 2)
    Path(lake.table("takedowns").file_uris()[0]).write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"cannot be read.*nothing was changed"):
        maintenance.compact(lake, "takedowns")


def test_rows_of_before_a_rule_was_made_are_kept(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake, 0, 2)
    monkeypatch.setattr(
        "etl.lake.constraints._rules", lambda name, rows: [("never", pc.equal(rows["kind"], "image_id"))]
    )
    maintenance.compact(lake, "takedowns")
    assert values(lake) == expected(10)


def take_down(lake: Lake, value: str) -> None:
    """Rewrite the file that holds a row, as a takedown does."""

    def step(table: DeltaTable) -> maintenance.Change | None:
        for one in maintenance.data_files(table):
            found = maintenance.read_file(lake, "takedowns", one)
            left = found.filter(pc.not_equal(found["value"], value))
            if left.num_rows < found.num_rows:
                return maintenance.Change([one], [left])
        return None

    maintenance.rewrite(lake, "takedowns", step)
