"""Checks that are one query each: it names the offenders, and a finding says how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from etl.lake.check.bench import Bench
from etl.lake.check.findings import ERROR, Finding, Progress, Severity, Tally


@dataclass(frozen=True)
class Rule:
    """A query whose rows are offenders.

    Attributes:
        check: Name of the check.
        tables: It is asked when one of these is in the scope.
        offenders: SELECT with a text column ``example``.
        message: What the offenders are.
        remedy: What to do about them.
        severity: How bad it is.
    """

    check: str
    tables: tuple[str, ...]
    offenders: str
    message: str
    remedy: str
    severity: Severity = ERROR


@dataclass(frozen=True)
class UnitRule:
    """A query for rows without what they belong to: excused while their unit is open.

    Attributes:
        check: Name of the check.
        table: The table of the rows.
        offenders: SELECT unit, count(*), an example; grouped by unit.
        message: What the offenders are.
        closed: What to do when their unit is committed.
        severity: How bad it is then.
    """

    check: str
    table: str
    offenders: str
    message: str
    closed: str
    severity: Severity = ERROR


SWEEP = "groundlake lake sweep: removes what units that will never be finished have left"
UNKNOWN = "restore the lake from a backup; something other than groundlake wrote them, or removed their order"


def ask(bench: Bench, rules: Iterable[Rule | UnitRule], progress: Progress) -> Iterator[Finding]:
    """The findings of some rules, on one connection."""
    chosen = [rule for rule in rules if bench.has(*(rule.tables if isinstance(rule, Rule) else (rule.table,)))]
    if not chosen:
        return
    with bench.connect() as connection:
        for number, rule in enumerate(chosen):
            progress(number, len(chosen))
            if isinstance(rule, UnitRule):
                yield from _of_units(bench, rule, connection.execute(rule.offenders).fetchall())
                continue
            query = f"select count(*), min(example) from ({rule.offenders})"  # noqa: S608 - ours, never a user's
            count, example = connection.execute(query).fetchall()[0]
            if count:
                yield Finding(rule.check, rule.severity, rule.message, count, str(example), rule.remedy)
    progress(len(chosen), len(chosen))


def _of_units(bench: Bench, rule: UnitRule, rows: Iterable[tuple[str, int, str]]) -> Iterator[Finding]:
    busy, dead, closed, unknown = Tally(), Tally(), Tally(), Tally()
    for unit, count, example in rows:
        state = bench.units.state(unit) if unit else "unknown"
        tally = {"open": busy, "closed": closed, "unknown": unknown}.get(state, dead)
        tally.add(f"{example} of unit {unit} ({state})", count)
    yield from busy.finding(rule.check, f"{rule.message}: work in progress", "nothing: they show when it ends", "note")
    yield from dead.finding(rule.check, f"{rule.message}: their unit will never be finished", SWEEP)
    yield from unknown.finding(rule.check, f"{rule.message}, of no order that this lake knows", UNKNOWN)
    yield from closed.finding(
        rule.check, f"{rule.message}, although their unit is committed", rule.closed, rule.severity
    )
