"""Ground truth into the lake: by the same orders, slices and commits as what networks say, and so exactly once.

An order lists the pictures of the lake that lack an outcome of the dataset; what the file says of them is looked up
when its slices are made, and the same again by whoever goes on with it: the annotator is the digest of the file.
Nothing is noted in ``runs``: their speed is what planning takes for that of networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from etl.errors import ConfigurationError
from etl.lake import Lake, Snapshot
from etl.lake.claims import Claim, Found, adopt, claim, known_orders
from etl.lake.commit import FencedError
from etl.lake.ids import digest
from etl.lake.orders import Order, commit_order, finish_slice, read_slice
from etl.settings.catalog import NAME
from etl.stages.contract import Result
from etl.stages.opening import ORDER_IMAGES, hold_back
from etl.stages.outcomes import Header, slice_tables
from etl.stages.slices import Answer
from etl.stages.stopping import check_alive, dead
from etl.stages.summary import add_counts, by_status
from etl.stages.upstream import taken_down
from etl.truth.annotators import TruthAnnotator, register
from etl.truth.matching import Matches, check_found, find_pictures
from etl.truth.model import Truth
from etl.truth.rows import result_of

Progress = Callable[[str, int, int], None]
Item = Mapping[str, Any]
_STATES = """
    select annotator_id, status, reason, count(*) from all_outcomes
    where annotator_id in (select unnest($annotators::varchar[])) and image_id in (select image_id from stale)
    group by all"""


@dataclass(frozen=True)
class StageLanded:
    """What a lake knows of a dataset's pictures for one stage.

    Attributes:
        stage: The stage.
        annotator_id: The dataset's annotator of it.
        counts: Pictures by ``status`` or ``status/reason``, whoever landed them and when.
        new: Pictures that this request landed, or helped another one to.
        pending: Pictures that came in while it landed.
    """

    stage: str
    annotator_id: str
    counts: Mapping[str, int]
    new: int
    pending: int

    @property
    def ok(self) -> int:
        """Pictures with rows."""
        return by_status(self.counts, "ok")

    @property
    def empty(self) -> int:
        """Pictures with nothing to find."""
        return by_status(self.counts, "empty")

    @property
    def failed(self) -> int:
        """Pictures that the file says something wrong of."""
        return by_status(self.counts, "failed")


@dataclass(frozen=True)
class Landed:
    """What became of a dataset; ``ok``, ``empty``, ``failed`` and ``pending`` of a stage add up to the pictures.

    Attributes:
        name: Name of the dataset.
        source: The source whose pictures it speaks of.
        matches: Where the images of the file are.
        stages: What was landed, in the order of the stages.
    """

    name: str
    source: str
    matches: Matches
    stages: tuple[StageLanded, ...]

    @property
    def absent(self) -> int:
        """Images of the file that are not in the lake."""
        return self.matches.absent

    @property
    def without_truth(self) -> int:
        """Pictures of the source that the file does not speak of."""
        return self.matches.without_truth

    @property
    def new(self) -> int:
        """Outcomes that this request brought."""
        return sum(stage.new for stage in self.stages)


def land_truth(
    lake: Lake, truth: Truth, *, name: str, source: str, request: str, progress: Progress | None = None
) -> Landed:
    """Land what a dataset says of the pictures of a source that do not have it yet.

    Killed anywhere, the same call, or one of another request, does the rest; two at once share the work. The rows show
    in the views ``all_…`` only, until a person promotes the annotators.

    Args:
        lake: The lake.
        truth: What the files say.
        name: Name of the dataset.
        source: The source under whose urls the pictures are looked up.
        request: Name of the request: the same on every try of it.
        progress: Told the stage, and how many of the pictures that lack it are done.

    Raises:
        ConfigurationError: The name cannot be one, or there is no such source.
        DataError: No image of the file is in the lake; or the request's order was declared dead meanwhile.
        RetryableError: The store failed; the same call goes on.
    """
    if not re.fullmatch(NAME, name):
        raise ConfigurationError(f"the name {name!r} does not match {NAME}", remedy="for example: --name coco-val2017")
    with Snapshot.take(lake).connect() as connection:
        check_found(connection, find_pictures(connection, truth, source), truth, source)
    annotators = [TruthAnnotator(stage, name, truth.sha256) for stage in truth.stages]
    landings = [_Landing(lake, truth, one, source, request, progress or _silent) for one in annotators]
    for one in landings:
        register(lake, one.annotator)
        one.run()
    return _report(lake, truth, name, source, landings)


@dataclass
class _Landing:
    """One stage of one call."""

    lake: Lake
    truth: Truth
    annotator: TruthAnnotator
    source: str
    request: str
    progress: Progress
    new: int = 0

    def run(self) -> None:
        """Work this request's orders, then those of others that hold pictures back: their openers may be dead."""
        blockers: set[str] = set()
        for claimed in self._claims():
            blockers |= claimed.blockers
            if claimed.order is not None:
                self._work(claimed.order)
        for unit in sorted(blockers):
            if self.lake.table("outcomes").transaction_version(unit) is None:
                self._work(adopt(self.lake, unit))

    def _claims(self) -> Iterator[Claim]:
        """This request's orders: one for every ``ORDER_IMAGES`` pictures."""
        own = self.annotator
        for part in count():
            key = digest("truth", own.stage, own.annotator_id, self.request, self.source, part)
            header = {
                "stage": own.stage,
                "annotator_id": own.annotator_id,
                "request": self.request,
                "requested_at": datetime.now(UTC).isoformat(),
                "source": self.source,
                "shards": [],
                "upstream": {},
            }
            claimed = claim(self.lake, key, header, self._find)
            yield claimed
            if claimed.order is None or not claimed.order.header["more"]:
                return

    def _find(self) -> Found:
        """The pictures without an outcome of this annotator that no open order lists."""
        annotator = self.annotator.annotator_id
        snapshot = Snapshot.take(self.lake)
        with snapshot.connect() as connection:
            find_pictures(connection, self.truth, self.source)
            connection.execute(
                "delete from stale where image_id in (select image_id from raw.outcomes where annotator_id = ?)",
                [annotator],
            )
            places, blockers = hold_back(snapshot, connection, annotator)
            query = f"select * from stale order by shard_id, image_id limit {ORDER_IMAGES + 1}"  # noqa: S608 - a number
            items = connection.execute(query).to_arrow_table().to_pylist()
            known = known_orders(connection, annotator)
        return Found(items[:ORDER_IMAGES], places, known, blockers, more=len(items) > ORDER_IMAGES)

    def _work(self, order: Order) -> None:
        """Finish the slices that have no record, and commit the order."""
        check_alive(self.lake, order)
        done = 0
        try:
            for number, items in order.slices():
                if read_slice(self.lake, order.key, number) is None:
                    self._finish(order, number, items)
                done += len(items)
                self.progress(self.annotator.stage, done, len(order.items))
            commit_order(self.lake, order, last="outcomes")
        except FencedError as error:
            raise dead(order) from error
        self.new += len(order.items)

    def _finish(self, order: Order, number: int, items: Sequence[Item]) -> None:
        header = Header(
            stage=order.header["stage"],
            annotator_id=order.header["annotator_id"],
            unit=order.key,
            requested_at=datetime.fromisoformat(order.header["requested_at"]),
        )
        gone = taken_down(self.lake, [item["image_id"] for item in items])
        tables, counts = slice_tables(header, [Answer(item, self._result(item, gone)) for item in items])
        finish_slice(self.lake, order.key, number, tables, counts)

    def _result(self, item: Item, gone: frozenset[str]) -> Result:
        if item["image_id"] in gone:
            return Result("failed", "taken_down")
        told = [self.truth.images[number] for number in item["truth"]]
        return result_of(self.annotator.stage, item["image_id"], (item["width"], item["height"]), told)


def _report(lake: Lake, truth: Truth, name: str, source: str, landings: Sequence[_Landing]) -> Landed:
    """Count what the lake shows now, and not what this call believes it did."""
    ids = [one.annotator.annotator_id for one in landings]
    states: dict[str, list[dict[str, int]]] = {}
    with Snapshot.take(lake).connect() as connection:
        matches = find_pictures(connection, truth, source)
        for annotator, status, reason, pictures in connection.execute(_STATES, {"annotators": ids}).fetchall():
            state = status if status == "ok" else f"{status}/{reason}"
            states.setdefault(annotator, []).append({state: pictures})
    stages = []
    for one in landings:
        counts = add_counts(states.get(one.annotator.annotator_id, []))
        pending = matches.pictures - sum(counts.values())
        stages.append(StageLanded(one.annotator.stage, one.annotator.annotator_id, counts, one.new, pending))
    return Landed(name, source, matches, tuple(stages))


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
