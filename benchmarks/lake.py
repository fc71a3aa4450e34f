"""How fast and how large the lake is: ``.venv/bin/python benchmarks/lake.py --images 1000000``.

Everything goes through the code that stages, planning and readers use, over synthetic rows (``lake_data.py``): images
in shards of 10,000, each with instances that carry real RLE masks. What reads runs in a process of its own, so that
its peak memory can be told; ``base`` is such a process that has only imported the code. Two of the figures are also
checked: planning must find exactly the images that were left out, and compaction must keep every row.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lake_data as data
import pyarrow.parquet as pq

from etl.lake import Lake, Snapshot, maintenance
from etl.lake.ids import digest
from etl.lake.migrations import MARKER
from etl.lake.orders import commit_order, finish_slice, open_order
from etl.settings import ModelEntry, Settings
from etl.stages.annotators import Annotator
from etl.stages.staleness import count_stale, order_items

SLICE = 1000  # images, as in production
_PROCESSES = multiprocessing.get_context("spawn")
QUERIES = {
    "one shard's instances": "select * from instances where shard_id = '" + data.shard_id(0) + "'",  # noqa: S608
    "instances per label": "select label, count(*) as n, avg(score) as score from instances group by label",
    "images without a box": "select count(*) as n from images anti join instances using (image_id)",
    "best instance per image": "select image_id, max_by(instance_id, score) as best from instances group by image_id",
}


@dataclass(frozen=True)
class Figure:
    """One measured value; ``ratio`` says how it stands to the first of its group in the same run."""

    group: str
    name: str
    value: float
    unit: str
    ratio: float | None = None


@dataclass(frozen=True)
class Cost:
    """What a call took: its result, seconds, seconds of both cores together, and peak memory of its process in MB."""

    result: Any
    seconds: float
    cpu: float
    memory: float


class Bench:
    """Collects figures, printing each as it comes."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def add(self, group: str, name: str, value: float, unit: str, *, beside: float | None = None) -> None:
        """Note a value, and its ratio to ``beside``."""
        figure = Figure(group, name, float(f"{value:.4g}"), unit, float(f"{value / beside:.2g}") if beside else None)
        self.figures.append(figure)
        ratio = f"{figure.ratio:8.2f} x" if figure.ratio is not None else ""
        print(f"{group:12} {name:60} {figure.value:12,.10g} {unit:12}{ratio}", flush=True)

    def cost(self, group: str, name: str, cost: Cost) -> None:
        """Note what a call took."""
        self.add(group, name, cost.seconds, "s")
        self.add(group, f"{name}, both cores", cost.cpu, "s CPU")
        self.add(group, f"{name}, peak memory", cost.memory, "MB")


def apart(work: Callable[..., Any], *args: Any) -> Cost:
    """What a call takes in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=_PROCESSES) as pool:
        return pool.submit(_timed, work, args).result()


def _timed(work: Callable[..., Any], args: Sequence[Any]) -> Cost:
    start, cpu = time.perf_counter(), time.process_time()
    result = work(*args)
    return Cost(result, time.perf_counter() - start, time.process_time() - cpu, _peak())


def _peak() -> float:
    """Peak memory of this process in MB; what getrusage tells includes that of the parent before exec."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024


def opened(folder: Path) -> Lake:
    """The lake of a folder; made when there is none."""
    settings = Settings(scratch=folder.parent / "scratch", slice_size=SLICE)
    return (Lake.open if (folder / MARKER).exists() else Lake.create)(str(folder), settings)


def masks(bench: Bench, count: int) -> data.Masks:
    """Size of a mask as text."""
    made = data.Masks(count)
    bench.add("mask", "RLE text, mean", made.lengths.mean(), "bytes")
    bench.add("mask", "RLE text, median", statistics.median(made.lengths.tolist()), "bytes")
    return made


def append(bench: Bench, lake: Lake, shards: int, per_image: int, pool: data.Masks) -> None:
    """What a stage waits for: a slice of 1,000 images written, an order of 10,000 committed."""
    written: list[float] = []
    committed: list[float] = []
    for shard in range(shards):
        unit = digest("benchmark order", shard)
        order = open_order(
            lake, unit, {"stage": "ground"}, lambda: [{"image_id": str(n)} for n in range(data.GROUNDED)]
        )
        for number, (start, stop) in enumerate(data.slices(SLICE)):
            tables = {
                "instances": data.instances(shard, unit, start, stop, per_image, pool),
                "outcomes": data.outcomes("ground", shard, unit, start, stop),
            }
            begin = time.perf_counter()
            finish_slice(lake, unit, number, tables, {"ok": stop - start})
            written.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        commit_order(lake, order, last="outcomes")
        committed.append(time.perf_counter() - begin)
    name = f"slice of {SLICE} images x {per_image} instances"
    bench.add("append", f"{name}, median", statistics.median(written) * 1000, "ms")
    bench.add("append", f"{name}, 95 %", sorted(written)[int(len(written) * 0.95)] * 1000, "ms")
    first, last = statistics.median(committed[:10]), statistics.median(committed[-10:])
    bench.add("append", "commit of an order, first 10, median", first * 1000, "ms")
    bench.add("append", "commit of an order, last 10, median", last * 1000, "ms", beside=first * 1000)
    rows = shards * data.GROUNDED * (per_image + 1)
    bench.add("append", "rows per second, one writer", rows / (sum(written) + sum(committed)), "rows/s")


def sizes(bench: Bench, lake: Lake) -> None:
    """Bytes on disk per instance and per mask."""
    found = maintenance.data_files(lake.table("instances"))
    rows = sum(one.rows for one in found)
    bench.add("size", "instance row on disk", sum(one.size for one in found) / rows, "bytes")
    stored = counted = 0
    for one in found[:20]:
        footer = pq.read_metadata(Path(lake.table_uri("instances")) / one.path)
        counted += footer.num_rows
        for group in range(footer.num_row_groups):
            columns = (footer.row_group(group).column(n) for n in range(footer.num_columns))
            stored += sum(c.total_compressed_size for c in columns if c.path_in_schema == "mask_counts")
    bench.add("size", "of that the mask", stored / counted, "bytes")


def commits(bench: Bench, folder: Path, writers: Sequence[int], seconds: float) -> None:
    """Commits per second into one table; each writer is a process with units of its own."""
    alone = None
    for count in writers:
        lake = opened(folder / f"commits-{count}")
        with ProcessPoolExecutor(count, mp_context=_PROCESSES) as pool:
            list(pool.map(_wait, [1.0] * count))  # all have imported everything
            begin = time.time() + 0.5
            spans = [pool.submit(_commit, Path(lake.uri), n, begin, seconds) for n in range(count)]
            ends = [span.result() for span in spans]
        rate = lake.table("runs").version() / (max(ends) - begin)
        alone = alone or rate
        bench.add("commits", f"{count} writers, one table", rate, "commits/s", beside=alone)


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _commit(folder: Path, writer: int, begin: float, seconds: float) -> float:
    lake, number = opened(folder), 0
    rows = data.table("runs", 1, **_RUN)
    time.sleep(max(0.0, begin - time.time()))
    while time.time() < begin + seconds:
        key = digest(writer, number)
        lake.append("runs", rows.to_pylist(), key)
        number += 1
    return time.time()


_RUN: dict[str, Any] = dict.fromkeys(("run_id", "request", "unit", "stage", "annotator_id", "host", "device"), "x")
_RUN |= {"started_at": data.NOW} | dict.fromkeys(("seconds", "network_seconds", "decode_wait_seconds"), 1.0)
_RUN |= dict.fromkeys(("images", "ok", "empty", "failed"), 1)


def opening(bench: Bench, folder: Path, versions: Sequence[int]) -> None:
    """How long a handle and a snapshot take as a table's log grows."""
    lake, first = opened(folder / "versions"), None
    rows = data.table("runs", 1, **_RUN).to_pylist()
    for wanted in versions:
        for number in range(lake.table("runs").version(), wanted):
            lake.append("runs", rows, digest("version", number))
        handle = median_of(lambda: lake.table("runs"))
        first = first or handle
        bench.add("opening", f"handle of a table at version {wanted}", handle * 1000, "ms", beside=first * 1000)
        bench.add(
            "opening", f"snapshot of all tables, one at {wanted}", median_of(lambda: Snapshot.take(lake)) * 1000, "ms"
        )


def median_of(work: Callable[[], object], repeats: int = 9) -> float:
    """Median seconds of a call."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def planning(bench: Bench, lake: Lake, shards: int) -> None:
    """The anti-join of planning: images whose outcome is missing or was made from an older input."""
    images = f"{shards * data.SHARD / 1e6:g}M images"
    cost = apart(_count_stale, Path(lake.uri), shards)
    if cost.result != shards * data.STALE:
        raise SystemExit(f"planning found {cost.result} stale images, not {shards * data.STALE}")
    bench.cost("planning", f"count what is stale, {images}", cost)
    cost = apart(_items, Path(lake.uri), min(shards, 10))
    if cost.result != min(shards, 10) * data.STALE:
        raise SystemExit(f"the orders would hold {cost.result} items")
    bench.cost("planning", f"orders of {min(shards, 10)} of its shards, one by one", cost)


def _chain() -> list[Annotator]:
    return [
        Annotator(data.annotator_id(stage), ModelEntry.model_construct(name=stage, stage=stage, networks={}), {})
        for stage in ("tag", "ground")
    ]


def _count_stale(folder: Path, shards: int) -> int:
    snapshot = Snapshot.take(opened(folder))
    return sum(count_stale(snapshot, [data.shard_id(n) for n in range(shards)], _chain()).values())


def _items(folder: Path, shards: int) -> int:
    snapshot, chain = Snapshot.take(opened(folder)), _chain()
    return sum(len(order_items(snapshot, [data.shard_id(n)], chain, force=False)) for n in range(shards))


def queries(bench: Bench, lake: Lake, note: str = "") -> None:
    """SQL of users, through the views and in the sandbox."""
    for name, query in QUERIES.items():
        cost = apart(_query, Path(lake.uri), query)
        bench.cost("sql", f"{name}{note} ({cost.result:,} rows)", cost)


def _query(folder: Path, query: str) -> int:
    return int(Snapshot.take(opened(folder)).sql(query).num_rows)


def compaction(bench: Bench, lake: Lake) -> None:
    """All small files of instances into files of the target size."""
    before = maintenance.data_files(lake.table("instances"))
    cost = apart(_compact, Path(lake.uri))
    after = maintenance.data_files(lake.table("instances"))
    if sum(one.rows for one in before) != sum(one.rows for one in after):
        raise SystemExit("compaction changed the number of rows")
    size = sum(one.size for one in before) / 1e6
    bench.cost("compaction", f"instances, {len(before)} files of {size:,.0f} MB into {len(after)}", cost)
    bench.add("compaction", "instances", size / cost.seconds, "MB/s")


def _compact(folder: Path) -> None:
    maintenance.compact(opened(folder), "instances")


def main() -> None:
    """Print one line per figure."""
    options = _options()
    bench, shards = Bench(), max(1, options.images // data.SHARD)
    folder = Path(tempfile.mkdtemp(prefix="groundlake-bench-", dir=options.folder))
    try:
        bench.add("base", "a process that imports the lake, peak memory", apart(_wait, 0.0).memory, "MB")
        commits(bench, folder, options.writers, options.seconds)
        opening(bench, folder, options.versions)
        pool = masks(bench, options.masks)
        lake = opened(folder / "lake")
        data.fill(lake, shards, ["tag"])
        append(bench, lake, shards, options.instances, pool)
        sizes(bench, lake)
        planning(bench, lake, shards)
        queries(bench, lake)
        compaction(bench, lake)
        queries(bench, lake, ", compacted")
        if options.planning_images:
            shutil.rmtree(lake.uri)
            large, many = opened(folder / "large"), options.planning_images // data.SHARD
            data.fill(large, many, ["tag", "ground"])
            planning(bench, large, many)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in bench.figures], indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="images of the lake, in shards of 10,000")
    parser.add_argument("--instances", type=int, default=8, help="instances per image")
    parser.add_argument("--planning-images", type=int, default=0, help="a second lake, for planning only")
    parser.add_argument("--masks", type=int, default=20_000, help="different masks to draw from")
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 8, 32], help="writers that commit at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the writers commit")
    parser.add_argument("--versions", type=int, nargs="+", default=[10, 100, 1000], help="versions to open a table at")
    parser.add_argument("--folder", type=Path, default=None, help="where the lakes are made, and removed again")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
