"""One pass over all takedowns that are not purged yet: bytes, rows, history, manifests; as often as it takes.

The order of a pass, and why each crash point is safe:

1. Which orders are open is looked up first: whoever closes one after that is looked at by the next pass.
2. What the tombstones mean is looked up in every file there is; images that came in since get theirs before any row
   that told of them goes.
3. Bytes and captions of url lists go before the rows that say where they are.
4. Rows go table by table, ``images`` last, because its rows tell the shards in which the others' are looked for.
   Killed between the log and ``rewrites``, the replaced file is found again as one that no present version names.
5. Files are deleted some hours after ``rewrites`` named their replacement, never without.
6. What was done is noted last: a pass that is killed notes nothing, and the next does it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from etl.lake.ids import digest
from etl.lake.lake import Lake
from etl.lake.schemas import TABLES
from etl.lake.takedown import manifests
from etl.lake.takedown.bytes import Eraser, untold_copies
from etl.lake.takedown.cut import Cut, cut_active
from etl.lake.takedown.history import cut_history
from etl.lake.takedown.lists import blank_captions
from etl.lake.takedown.notebook import Notebook
from etl.lake.takedown.resolve import Found, resolve
from etl.lake.takedown.scan import Scan
from etl.lake.takedown.texts import unshared_texts
from etl.lake.takedown.tombstones import PURGED, REWRITTEN, Takedown, note, read_takedowns, write_tombstones
from etl.lake.timeline import SKEW
from etl.lake.units import open_units, read_registered

_WITH_IMAGES = [name for name, table in TABLES.items() if "image_id" in table.schema.names]
# Images last, for their rows lead to the others; sightings before them, for they lead to the images.
TABLES_CUT = sorted(_WITH_IMAGES, key=lambda name: (name == "images", name == "sightings", name == "downloads", name))


@dataclass
class Progress:
    """How far a takedown is after a pass.

    Attributes:
        takedown: The takedown, as it was before the pass.
        state: Its state now.
        rows: Rows of it that this pass removed, by table.
        bytes: Bytes that it overwrote, by tar.
        orders: Open orders that may still bring rows of it; their end is waited for.
        in_flight: Whether files are left that somebody may still commit.
        until: When the last file that held rows of it may be deleted; None when all are.
        manifests: Manifest versions in the lake that hold pictures of it and are to go, once ``until`` has passed.
    """

    takedown: Takedown
    state: str
    rows: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    orders: list[str] = field(default_factory=list)
    in_flight: bool = False
    until: datetime | None = None
    manifests: list[manifests.Holder] = field(default_factory=list)

    def wait(self, until: datetime) -> None:
        """Not purged before that time."""
        self.until = max(until, self.until or until)


def purge(lake: Lake, *, everything: bool = False, tell: Callable[[str], None] | None = None) -> list[Progress]:
    """Bring every pending takedown as far as it can come now.

    May run beside anything and beside itself; killed anywhere, the next pass goes on.

    Args:
        lake: The lake.
        everything: Also takedowns that were purged before, as after a backup was restored.
        tell: Told what is being done.

    Returns:
        How far each has come.

    Raises:
        RetryableError: The store or the search failed; what was done stays done.
    """
    opened = _open_orders(lake)
    takedowns = [one for one in read_takedowns(lake) if everything or one.state != PURGED]
    if not takedowns:
        return []
    with Scan.open(lake) as scan:
        work = _Pass(scan, takedowns, opened)
        work.run(tell or _silent)
    return work.settle()


def blocking_orders(lake: Lake, takedown: Takedown) -> list[str]:
    """Open orders that may still bring rows of a takedown: those that were opened before it."""
    return _opened_before(_open_orders(lake), takedown.requested_at + SKEW)


class _Pass:
    def __init__(self, scan: Scan, takedowns: Sequence[Takedown], opened: Mapping[str, float]) -> None:
        self._lake, self._scan, self._opened = scan.lake, scan, opened
        self._now = datetime.now(UTC)
        self._patience = timedelta(hours=scan.lake.settings.purge_hours)
        self._notes = {one.takedown_id: Notebook(scan.lake, one.takedown_id) for one in takedowns}
        self._progress = {one.takedown_id: Progress(one, one.state) for one in takedowns}

    def run(self, tell: Callable[[str], None]) -> None:
        """Everything but the notes on what was done."""
        tell("looking for the pictures")
        found = resolve(self._scan, {key: one.takedown.tombstones for key, one in self._progress.items()})
        self._keep_out(found)
        texts = unshared_texts(self._scan, found, self._known_texts())
        self._plan(found, texts)
        tell("overwriting bytes")
        eraser = Eraser(self._lake)
        eraser.erase(found.copies)
        eraser.erase(untold_copies(self._scan, found))
        blank_captions(self._scan, found)

        def of_text(text: str) -> set[str]:
            return texts.get(text, set())

        for cut in self._cuts(found, texts, eraser):
            tell(f"removing rows of {cut.table}")
            self._cut(cut, of_text if cut.table == "embeddings" else found.owners_of)
        for (image, tar), size in eraser.bytes.items():
            for key in found.owners_of(image):
                self._progress[key].bytes[tar] += size
        self._manifests(found, tell)

    def _keep_out(self, found: Found) -> None:
        """Tombstones for images and bytes that were found since; before any row that told of them goes."""
        for key, progress in self._progress.items():
            new = {stone for stone, owners in found.owners.items() if key in owners} - progress.takedown.tombstones
            stones = sorted([stone.kind, stone.value] for stone in new)
            write_tombstones(self._lake, key, progress.takedown.reason, new, digest("takedown found", key, stones))

    def _known_texts(self) -> dict[str, set[str]]:
        known: dict[str, set[str]] = {}
        for key, notes in self._notes.items():
            for text in notes.planned("texts"):
                known.setdefault(text, set()).add(key)
        return known

    def _plan(self, found: Found, texts: dict[str, set[str]]) -> None:
        for key, notes in self._notes.items():
            shards = {shard for shard, owners in found.shards.items() if key in owners}
            notes.plan(shards, {text for text, owners in texts.items() if key in owners})

    def _cuts(self, found: Found, texts: dict[str, set[str]], eraser: Eraser) -> list[Cut]:
        shards = frozenset(found.shards).union(*(notes.planned("shards") for notes in self._notes.values()))
        images = frozenset(found.images)
        before = {"images": eraser.rows}
        cuts = [Cut(name, "image_id", images, shards, before.get(name)) for name in TABLES_CUT]
        return [Cut("embeddings", "text_sha256", frozenset(texts)), *cuts]

    def _cut(self, cut: Cut, owners: Callable[[str], set[str]]) -> None:
        active = cut_active(self._scan, cut)
        left = cut_history(self._scan, cut)
        for value, count in active.rows.items():
            for key in owners(value):
                self._progress[key].rows[cut.table] += count
        for value in left.in_flight:
            for key in owners(value):
                self._progress[key].in_flight = True
        for value, until in left.until.items():
            for key in owners(value):
                self._progress[key].wait(until)

    def _manifests(self, found: Found, tell: Callable[[str], None]) -> None:
        tell("looking into built manifests")
        manifests.remove_leavings(self._lake)
        for holder in manifests.holders(self._lake, found.images):
            keys = set().union(*(found.owners_of(image) for image in holder.images))
            due = min(self._progress[key].takedown.requested_at for key in keys) + self._patience
            if holder.inside and due <= self._now:
                manifests.remove(holder)
                continue
            for key in keys:
                self._progress[key].manifests.append(holder)
                if holder.inside:
                    self._progress[key].wait(due)

    def settle(self) -> list[Progress]:
        """Note how far each takedown has come."""
        for key, one in self._progress.items():
            self._notes[key].did({"rows": one.rows, "bytes": one.bytes})
            since = one.takedown.requested_at
            one.orders = _opened_before(self._opened, since + SKEW)
            if one.in_flight or one.orders:
                continue
            if one.state not in (REWRITTEN, PURGED):
                note(self._lake, key, REWRITTEN, self._notes[key].done())
                one.state = REWRITTEN
            # An order made from an older look at the lake may have been opened later; its rows carry no content.
            late = _opened_before(self._opened, since + self._patience)
            if one.until is None and not late and since + self._patience <= self._now:
                note(self._lake, key, PURGED, self._notes[key].done())
                one.state = PURGED
                self._notes[key].close()
        return list(self._progress.values())


def _silent(step: str) -> None:
    """Nobody is told."""


def _opened_before(opened: Mapping[str, float], moment: datetime) -> list[str]:
    return sorted(key for key, at in opened.items() if at < moment.timestamp())


def _open_orders(lake: Lake) -> dict[str, float]:
    """Orders that may still commit rows, and when each was opened (seconds): begun ones, and listed ones that wait."""
    opened = {unit.key: unit.opened_at for unit in open_units(lake)}
    registered = read_registered(lake)
    outcomes = lake.table("outcomes")  # after the others: what they tell of may be closed by now
    for key, order in registered.items():
        if outcomes.transaction_version(key) is None:
            opened[key] = min(order.opened_at, opened.get(key, order.opened_at))
    return opened
