"""Dropping the rows of annotators that nothing shows any more.

Their row in ``annotators`` stays, as do ``current``, ``runs`` and ``orders``: what was once computed, by what and when,
is still told. Files that older versions name stay until vacuum, those that manifests pin for as long as they do.

An annotator of kind ``model`` is superseded when it is current for no source, no order of it is open, and no result of
a current annotator rests on it. One rests on it where its ``input_digest`` is a value of the other's, and of no
annotator that stays anyway. Nothing would show wrong without those rows, and planning asks only for the annotators that
the catalog names; but they alone tell what a shown result was made from, and a catalog that still names the model would
have them computed anew. So they go only when a person names that annotator.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from etl.errors import ConfigurationError, RetryableError, UnknownNameError
from etl.lake.lake import Lake
from etl.lake.maintenance.files import DataFile
from etl.lake.maintenance.progress import Tell, silent
from etl.lake.maintenance.removal import Removal, Sieve, plan_removal, remove_rows
from etl.lake.pins import pinned_files
from etl.lake.schemas import TABLES, UNIT_TABLES
from etl.lake.snapshot import Snapshot
from etl.lake.units import open_annotators

# Outcomes first: without them views and planning see nothing of an annotator, so no half of it ever shows.
GC_TABLES = tuple(
    sorted((n for n in UNIT_TABLES if "annotator_id" in TABLES[n].schema.names), key=lambda n: (n != "outcomes", n))
)
_ANNOTATORS = """
    select a.annotator_id, a.stage, a.model, a.kind, list(c.source order by c.source) filter (c.source is not null)
    from annotators a left join current c using (annotator_id) group by all order by a.stage, a.model, a.annotator_id"""
_RESTS_ON = """
    with roots as (select unnest(?::varchar[]) as annotator_id),
    made as (select image_id, input_digest, value_digest from all_outcomes semi join roots using (annotator_id)),
    loose as (select image_id, input_digest as value_digest from made where input_digest <> image_id
        except select image_id, value_digest from made)
    select distinct annotator_id from all_outcomes semi join loose using (image_id, value_digest)"""


@dataclass(frozen=True)
class Candidate:
    """An annotator of the lake.

    Attributes:
        annotator_id: Its id.
        stage: Its stage.
        model: Its name in the catalog.
        kept: Why it is not superseded; None when it is.
        fixed: Whether it must stay even if a person names it.
    """

    annotator_id: str
    stage: str
    model: str
    kept: str | None
    fixed: bool


@dataclass(frozen=True)
class Collected:
    """What was dropped of a table, or would be.

    Attributes:
        table: The table.
        rows: Rows dropped.
        files: Files that leave the table's present version, some of them written again without those rows.
        bytes: Bytes by which the present version shrinks (for a plan: at least).
        later: Bytes that vacuum frees once the retention is over.
        pinned: Bytes that stay, since manifests pin their files.
    """

    table: str
    rows: int
    files: int
    bytes: int
    later: int
    pinned: int


def candidates(lake: Lake) -> list[Candidate]:
    """Every annotator of the lake with the reason that keeps it, if any.

    Raises:
        StorageError: The store failed.
    """
    with Snapshot.take(lake).connect() as connection:
        rows = connection.execute(_ANNOTATORS).fetchall()
        current = [row[0] for row in rows if row[4]]
        roots: set[str] = set()
        resting = set(current) | {row[0] for row in rows if row[3] != "model"}
        while resting - roots:  # what a kept one rests on is kept, and so is what that rests on
            roots |= resting
            resting = {row[0] for row in connection.execute(_RESTS_ON, [sorted(roots)]).fetchall()}
    opened = open_annotators(lake)
    return [_judged(row, roots, opened) for row in rows]


def _judged(row: tuple[str, str, str, str, list[str] | None], roots: Set[str], opened: Mapping[str, str]) -> Candidate:
    annotator, stage, model, kind, sources = row
    fixed = kept = None
    if sources:
        fixed = f"current for {', '.join(sources)}"
    elif kind != "model":
        fixed = f"of kind {kind}"
    elif annotator in opened:
        fixed = f"in use by the open order {opened[annotator]}"
    elif annotator in roots:
        kept = "what shown results rest on"
    return Candidate(annotator, stage, model, fixed or kept, fixed is not None)


def choose(found: Sequence[Candidate], short: Sequence[str]) -> list[Candidate]:
    """The superseded annotators; or those whose ids begin with one of ``short``, superseded or not.

    Raises:
        UnknownNameError: No annotator, or more than one, begins like that.
        ConfigurationError: One that is named must stay.
    """
    if not short:
        return [one for one in found if one.kept is None]
    chosen = [_named(found, name) for name in short]
    for one in chosen:
        if one.fixed:
            raise ConfigurationError(
                f"the {one.stage} annotator {one.annotator_id} ({one.model}) is {one.kept}: its rows must stay",
                remedy="promote another one first (groundlake models promote), or let the order end",
            )
    return list({one.annotator_id: one for one in chosen}.values())


def collect(
    lake: Lake,
    annotators: Collection[str],
    *,
    dry_run: bool = False,
    tell: Tell = silent,
) -> list[Collected]:
    """Drop all rows of some annotators; tables without any are not in the answer.

    May run beside appends and beside itself; killed anywhere, the same call does the rest. Planning with a catalog that
    names one of these annotators at the same moment would read rows that go: do not do both at once.

    Args:
        lake: The lake.
        annotators: Ids, as ``choose`` gives them.
        dry_run: Change nothing, only count.
        tell: Told how many of a table's files are done.

    Raises:
        RetryableError: An order that uses one of them is open.
        RewriteConflictError: Other rewrites were faster every time.
    """
    found = []
    orders: dict[str, frozenset[str]] = {}
    for number, name in enumerate(GC_TABLES if annotators else ()):
        if number < 2:  # and again after the outcomes went: from then on nobody can plan with what is left
            _refuse_open(lake, annotators, orders)
        sieve = Sieve(lake, name, "annotator_id", annotators, lambda one: _guess(one, annotators))
        removal = plan_removal(sieve) if dry_run else remove_rows(sieve, tell)
        if removal.rows:
            found.append(_collected(lake, removal))
    return found


def _refuse_open(lake: Lake, annotators: Collection[str], known: dict[str, frozenset[str]]) -> None:
    for annotator, order in open_annotators(lake, known).items():
        if annotator in annotators:
            raise RetryableError(
                f"order {order} is open and uses annotator {annotator}",
                remedy="let it end, or wait until 'groundlake lake sweep' takes it for dead; then run it again",
            )


def _guess(one: DataFile, annotators: Collection[str]) -> bool | None:
    if one.annotators is None:
        return None
    low, high = one.annotators
    if low == high:
        return low in annotators
    return None if any(low <= annotator <= high for annotator in annotators) else False


def _collected(lake: Lake, removal: Removal) -> Collected:
    pins = pinned_files(lake, removal.table)
    pinned = sum(one.size for one in removal.files if one.path in pins)
    total = sum(one.size for one in removal.files)
    return Collected(removal.table, removal.rows, len(removal.files), removal.bytes, total - pinned, pinned)


def _named(found: Sequence[Candidate], short: str) -> Candidate:
    matches = [one for one in found if one.annotator_id.startswith(short)]
    if len(matches) != 1:
        kind = "annotator (ambiguous)" if matches else "annotator"
        known = [one.annotator_id for one in matches or found]
        raise UnknownNameError(kind, short, known, remedy="see 'groundlake lake gc'")
    return matches[0]
