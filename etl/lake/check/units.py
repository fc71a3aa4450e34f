"""Units: orders and slice records are there, what they name is there, and every row they name is in its table once."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping

import duckdb

from etl.lake.check.bench import Bench
from etl.lake.check.findings import NOTE, Finding, Progress, Tally
from etl.lake.check.logs import REPAIR
from etl.lake.check.rules import SWEEP
from etl.lake.commit import COMMITTED
from etl.lake.lake import Lake
from etl.lake.orders import read_slice
from etl.lake.parts import Part, table_key
from etl.lake.schemas import UNIT_TABLES
from etl.lake.units import FOLDER, LAST
from etl.storage import ObjectInfo

_SLICE = re.compile(r"\d{5,}\.json")
_RESTORE = "restore the lake from a backup; or redo the unit: groundlake annotate run --force"


def check_orders(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """Registered orders have their list, open ones make progress, and the parts their slices name are there."""
    if not bench.has("outcomes", "downloads", "orders"):
        return
    running = [key for key in bench.units.open if key not in bench.units.dead]
    dead, half, busy = Tally(), Tally(), Tally()
    for tally, keys in ((dead, bench.units.dead), (half, bench.units.half_swept), (busy, running)):
        for key in sorted(keys):
            tally.add(key)
    message = f"orders are open, but made no progress for {bench.lake.settings.sweep_days} days"
    yield from dead.finding("orders.dead", message, SWEEP)
    yield from half.finding("orders.dead", "orders were given up, and something is left of them", SWEEP, NOTE)
    yield from busy.finding("orders.open", "orders are being worked on", "nothing", NOTE)
    yield from _missing_parts(bench, progress)
    yield from _registered(bench)


def _missing_parts(bench: Bench, progress: Progress) -> Iterator[Finding]:
    missing = Tally()
    for number, key in enumerate(bench.units.open):
        progress(number, len(bench.units.open))
        gone = [part for part in slice_parts(bench.lake, key) if not _is_whole(bench.lake, part)]
        # Looked up again: it may have been swept, or committed and compacted, since it was listed as open.
        if gone and all(bench.lake.table(name).transaction_version(key) is None for name in LAST):
            missing.add(f"{table_key(gone[0].table)}/{gone[0].path} of unit {key}", len(gone))
    remedy = "restore these files from a backup; else the unit can never be committed: groundlake lake sweep"
    yield from missing.finding("orders.parts", "parts that open orders have finished are missing or cut", remedy)


def _is_whole(lake: Lake, part: Part) -> bool:
    found = lake.store.stat(f"{table_key(part.table)}/{part.path}")
    return found is not None and found.size == part.size


def _registered(bench: Bench) -> Iterator[Finding]:
    """Rows of ``orders`` without the order: its opener may have died, but then it must have left the list."""
    if not bench.lake.has("orders"):
        return
    with bench.connect() as connection:
        rows = connection.execute("select unit, items from raw.orders").fetchall()
    wanted = dict(rows)
    for one in bench.lake.store.list(FOLDER):
        wanted.pop(_order_of(one), None)
    lost, begun = Tally(), Tally()
    for unit, items in wanted.items():
        state = bench.units.state(unit)
        if state in ("fenced", "closed") or _is_there(bench, unit):
            continue
        (begun if bench.lake.store.stat(items) is not None else lost).add(unit)
    message = "orders are registered, but their list of images is gone"
    yield from lost.finding("orders.list", message, "groundlake annotate run: fences them and takes the images again")
    message = "orders are registered, but not published yet"
    yield from begun.finding("orders.list", message, "nothing: whoever needs them publishes them", NOTE)


def _order_of(one: ObjectInfo) -> str:
    name = one.key.removeprefix(FOLDER)
    return name.removesuffix(".json") if "/" not in name else ""


def _is_there(bench: Bench, unit: str) -> bool:
    return bench.lake.store.stat(f"{FOLDER}{unit}.json") is not None  # published since the listing


def check_units(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """Of committed units, a sample or all: every table they name rows of has them, all of them, once."""
    if not bench.has(*UNIT_TABLES):
        return
    keys = _chosen(bench)
    with bench.connect() as connection:
        counts = {name: _counts(connection, name, keys) for name in UNIT_TABLES}
        allowed = dict(
            connection.execute("select table_name, sum(rows_removed) from raw.rewrites group by all").fetchall()
        )
    sums = _Sums(bench, counts)
    for number, key in enumerate(keys):
        progress(number, len(keys))
        # One that is not committed, or whose rows were all collected or taken down, has nothing to compare.
        if any(counts[name].get(key) for name in LAST) and bench.units.state(key) == "closed":
            sums.compare(key)
    yield from sums.findings(allowed)


class _Sums:
    """Compares the rows of units with those their slices name."""

    def __init__(self, bench: Bench, counts: Mapping[str, Mapping[str, int]]) -> None:
        self._lake, self._counts = bench.lake, counts
        self._partly, self._more = Tally(), Tally()
        self._fewer = {name: Tally() for name in counts}

    def compare(self, key: str) -> None:
        expected = Counter[str]()
        for part in slice_parts(self._lake, key):
            expected[part.table] += part.rows
        for name, rows in expected.items():
            found = self._counts[name].get(key, 0)
            if found > rows:
                self._more.add(f"{name}: unit {key} has {found} rows, its slices {rows}")
            elif not found and self._lake.table(name).transaction_version(key) != COMMITTED:
                self._partly.add(f"{name}: unit {key} has no transaction, its slices {rows} rows")
            elif found < rows:
                self._fewer[name].add(f"unit {key} has {found} rows, its slices {rows}", rows - found)

    def findings(self, allowed: Mapping[str, int]) -> Iterator[Finding]:
        """What was found; ``allowed`` are the rows that takedowns say they removed per table."""
        yield from self._partly.finding(
            "units.partly", "units are committed in part only", f"{REPAIR}: commits the rest"
        )
        yield from self._more.finding("units.twice", "units have more rows in a table than their slices", _RESTORE)
        for name, tally in self._fewer.items():
            if tally.count > allowed.get(name, 0):
                message = f"table {name}: rows that committed units had are gone, and no takedown says so"
                yield from tally.finding("units.lost", message, _RESTORE)


def _chosen(bench: Bench) -> list[str]:
    """Keys of orders: all, or a sample, by one listing that holds no more than the sample."""
    rng = random.Random(bench.scope.seed)  # noqa: S311 - a sample, not a secret
    kept: list[str] = []
    for number, key in enumerate(filter(None, map(_order_of, bench.lake.store.list(FOLDER)))):
        if bench.scope.everything or len(kept) < bench.scope.sample:
            kept.append(key)
        elif (place := rng.randint(0, number)) < bench.scope.sample:
            kept[place] = key
    return kept


def _counts(connection: duckdb.DuckDBPyConnection, name: str, keys: list[str]) -> dict[str, int]:
    query = f"select unit, count(*) from raw.{name} where unit in (select unnest(?::varchar[])) group by unit"  # noqa: S608
    return dict(connection.execute(query, [keys]).fetchall())


def slice_parts(lake: Lake, key: str) -> Iterator[Part]:
    """The parts that the finished slices of an order name."""
    for one in lake.store.list(f"{FOLDER}{key}/"):
        name = one.key.removeprefix(f"{FOLDER}{key}/")
        record = read_slice(lake, key, int(name.removesuffix(".json"))) if _SLICE.fullmatch(name) else None
        yield from record.parts if record else ()
