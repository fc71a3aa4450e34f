"""Dead work orders: fenced first, then their rows go, then their parts, then their records, the order itself last.

Each crash point is safe, and the next sweep goes on from it:

1. The fence is set on the unit's last table before any other: from then on no reader can ever be shown the unit, and
   whoever still works on it is told so at its commit. A unit whose last table holds its rows is alive: left as it is.
2. Rows that the unit had committed to other tables go by a rewrite. No view shows them; older versions still name
   their files, which vacuum deletes after the retention.
3. Its parts that no version names go. After the fence nobody can commit them.
4. Its slice records and lists go, then the order: while it is there, a fenced unit is one that is not swept yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from etl.lake.lake import Lake
from etl.lake.maintenance.broom import Broom
from etl.lake.maintenance.files import DataFile
from etl.lake.maintenance.orphans import kept_files
from etl.lake.maintenance.removal import Sieve, plan_removal, remove_rows
from etl.lake.orders import order_key
from etl.lake.parts import table_key
from etl.lake.schemas import UNIT_TABLES
from etl.lake.units import FOLDER, StaleUnit, fence_unit, is_unit_key, stale_units, was_committed


def sweep_dead_units(broom: Broom) -> None:
    """Remove everything of units that have not progressed for the sweep's days."""
    units = [unit for unit in stale_units(broom.lake, broom.dead_before) if _fenced(broom, unit)]
    for name in UNIT_TABLES if units else ():
        _sweep_rows(broom, name, [unit.key for unit in units])
        _sweep_parts(broom, name, [unit.key for unit in units])
    for unit in units:
        order = order_key(unit.key)
        broom.take_all("records of dead orders", f"{FOLDER}{unit.key}/")
        if found := broom.lake.store.stat(order):
            broom.take("records of dead orders", order, found.size)


def _fenced(broom: Broom, unit: StaleUnit) -> bool:
    if not broom.dry_run and not fence_unit(broom.lake, unit.key, unit.last):
        return False  # it was committed since we looked
    if not unit.fenced:
        broom.count("dead orders")
    return True


def _sweep_rows(broom: Broom, name: str, keys: Sequence[str]) -> None:
    table = broom.lake.table(name)
    committed = [key for key in keys if was_committed(table, key)]
    if not committed:
        return
    sieve = unit_sieve(broom.lake, name, committed)
    removal = plan_removal(sieve) if broom.dry_run else remove_rows(sieve)
    broom.count("rows of dead orders", removal.rows, removal.bytes)


def unit_sieve(lake: Lake, name: str, keys: Sequence[str]) -> Sieve:
    """The rows of some units: all of the files that they wrote themselves, and whatever rewrites merged into others."""
    own = tuple(f"parts/{key}/" for key in keys)

    def guess(one: DataFile) -> bool | None:
        if one.path.startswith(own):
            return True
        return False if is_unit_key(one.path.split("/")[1]) else None  # another unit's own file, or a rewritten one

    return Sieve(lake, name, "unit", keys, guess)


def _sweep_parts(broom: Broom, name: str, keys: Sequence[str]) -> None:
    prefix = f"{table_key(name)}/"
    found = [one for key in keys for one in broom.lake.store.list(f"{prefix}parts/{key}/")]
    if not found:
        return
    kept = kept_files(broom.lake, name)  # after the fence, and after the listing
    for one in found:
        if one.key.removeprefix(prefix) not in kept:
            broom.take("parts of dead orders", one.key, one.size)
