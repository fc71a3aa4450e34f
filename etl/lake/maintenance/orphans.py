"""Files that nothing names: parts of writers that were killed, tars and url lists that no row leads to.

What may be in flight, and why none of it is taken:

- **Parts of an order that is open** have their slice record written a moment after them, and are committed when the
  last slice is done, which may be weeks later: nothing below an open order's folder is looked at. An order that is
  closed gets no commit any more, so what the log does not name of it is a twin's loss.
- **Parts of a rewrite** (compaction, takedown, sweep, gc) lie below the number that its transaction takes. The log
  takes each number once, so only folders whose number is used up are looked at.
- **Rows appended by a command** (``shards``, ``runs``, …) and **replacements of a takedown** in files that only older
  versions name: a part is committed, or named in ``rewrites``, moments after it is written, so a week tells.
- **Url lists** have a name of their own in each plan: none that a killed one left is taken over by another.
- **Tars** are published before their part and slice record. A tar of that age belongs to an order of that age: it was
  committed, or the same sweep has fenced it before.
- **Files of older versions**, which a rewrite removed, belong to vacuum as long as the log tells of them (100 days).

Files are listed first and looked up in the log afterwards: what came to be named meanwhile is found named.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow.compute as pc

from etl.lake.lake import Lake
from etl.lake.maintenance.broom import Broom
from etl.lake.maintenance.columns import distinct_values
from etl.lake.maintenance.rewrite import APP
from etl.lake.maintenance.vacuum import removed_files
from etl.lake.parts import data_paths, table_key
from etl.lake.pins import pinned_files
from etl.lake.remaps import read_remaps, resolve
from etl.lake.schemas import TABLES
from etl.lake.units import open_units
from etl.storage import NotFoundError, ObjectInfo

_THREADS = 8  # footers read at once


def kept_files(lake: Lake, name: str) -> set[str]:
    """Paths inside a table of every file that some version names, as its log does and as takedowns left it.

    Raises:
        ConfigurationError: A pinned version cannot be opened.
        StorageError: The store failed.
    """
    table = lake.table(name)
    named = {*data_paths(table), *removed_files(lake, name, table), *pinned_files(lake, name)}
    # A replacement is needed as long as the log tells of the file it replaced.
    return named | set(resolve(named, read_remaps(lake).get(name, {})))


def sweep_orphan_parts(broom: Broom) -> None:
    """Remove parts that are in no version of any table and that nobody can commit any more."""
    lake = broom.lake
    opened = {unit.key for unit in open_units(lake)}  # an order is older than its parts: none of these is missing
    for name in TABLES:
        found = _lost(broom, f"{table_key(name)}/parts/", ".parquet")
        if not found:
            continue
        kept, number = kept_files(lake, name), lake.table(name).transaction_version(APP) or 0
        for one in found:
            path = one.key.removeprefix(f"{table_key(name)}/")
            if path not in kept and not _in_flight(path.split("/")[1], opened, number):
                broom.take("orphan parts", one.key, one.size)


def _in_flight(folder: str, opened: set[str], number: int) -> bool:
    kind, _, digits = folder.partition("-")
    if kind == APP and digits.isdigit():
        return int(digits) > number
    return folder in opened


def sweep_orphan_tars(broom: Broom) -> None:
    """Remove tars that no row of ``images`` leads to, in any file that still exists: of a version, or not yet."""
    found = _lost(broom, "raw/", ".tar")
    if not found:
        return
    prefix = f"{table_key('images')}/"
    parts = [one.key.removeprefix(prefix) for one in broom.lake.store.list(f"{prefix}parts/")]
    parts = [path for path in parts if f"{prefix}{path}" not in broom.gone]
    with ThreadPoolExecutor(_THREADS) as pool:
        named = set[str]().union(*pool.map(lambda path: _tars(broom.lake, path), parts))
    for one in found:
        if one.key not in named:
            broom.take("orphan tars", one.key, one.size)


def _tars(lake: Lake, path: str) -> set[str]:
    try:
        return distinct_values(lake, "images", path, "tar")
    except NotFoundError:  # vacuum deleted it since it was listed
        return set()


def sweep_url_lists(broom: Broom) -> None:
    """Remove lists of urls that no row of ``shards`` names: their planner died before it wrote one."""
    found = _lost(broom, "urls/", ".parquet")
    named = _named_lists(broom.lake) if found else set()
    for one in found:
        if one.key not in named:
            broom.take("url lists", one.key, one.size)


def _named_lists(lake: Lake) -> set[str]:
    batches = lake.table("shards").to_pyarrow_dataset().to_batches(columns=["urls"])
    return {key for batch in batches for key in pc.unique(batch["urls"]).to_pylist()}


def _lost(broom: Broom, prefix: str, suffix: str) -> list[ObjectInfo]:
    """Objects old enough to be lost, but for those that were taken already."""
    return [
        one
        for one in broom.lake.store.list(prefix)
        if one.key.endswith(suffix) and one.modified < broom.lost_before and one.key not in broom.gone
    ]
