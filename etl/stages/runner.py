"""The one runner of all stages: a group's work orders, one per shard, each committed on its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property

from etl.errors import ConfigurationError, GroundlakeError, RetryableError, StoppedError
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.lake.orders import Order, open_order, read_order
from etl.models.store import ModelStore
from etl.settings import Catalog, ModelEntry
from etl.stages.annotators import Annotator, register
from etl.stages.batches import Engine
from etl.stages.contract import Stage
from etl.stages.failures import DeviceError, words
from etl.stages.orders import OrderReport, OrderWorker
from etl.stages.planning import Group, Request, check_group, read_request
from etl.stages.progress import Progress
from etl.stages.registry import stage_class
from etl.stages.staleness import annotator_chain, count_images, count_waiting, order_items
from etl.stages.summary import StageSummary, add_counts
from etl.stages.upstream import Maker

log = logging.getLogger(__name__)


def run_stage(
    lake: Lake,
    catalog: Catalog,
    stage: str,
    request_key: str,
    group: int,
    *,
    device: str,
    progress: Callable[[Progress], None] | None = None,
) -> StageSummary:
    """Run one stage over one group of a request; any number of times, by any number of processes, with one result.

    The networks are loaded once, and only when an image needs them. An order that fails stops no other.

    Args:
        lake: The lake.
        catalog: Where the group's model is looked up.
        stage: Name of the stage.
        request_key: Key of the request, see ``etl.stages.planning``.
        group: Number of the group in the request.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        progress: Called after every batch and every slice.

    Raises:
        NotFoundError: There is no such request.
        ConfigurationError: Stage, group, model, options or device are wrong.
        RetryableError: The place failed; finished slices stay, and the same call resumes after them.
        GroundlakeError: Orders failed; all others are committed, and the message names each.
    """
    summary, failure = try_stage(lake, catalog, stage, request_key, group, device=device, progress=progress)
    if failure is not None:
        raise failure
    return summary


def try_stage(
    lake: Lake,
    catalog: Catalog,
    stage: str,
    request_key: str,
    group: int,
    *,
    device: str,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[StageSummary, GroundlakeError | None]:
    """As ``run_stage``, but with the summary of the good orders beside the error of the bad ones.

    Raises:
        GroundlakeError: The stage could not begin, the device failed, or the process was told to stop.
    """
    request = read_request(lake, request_key)
    members = check_group(request, group)
    cls = stage_class(stage)
    if stage not in members.models:
        raise ConfigurationError(
            f"request {request.name!r} was made for {', '.join(request.stages)}; it names no model for {stage!r}",
            remedy=f"plan a request with this stage: groundlake annotate run --stages {stage}",
        )
    entry = catalog.model(stage, members.models[stage])
    run = _GroupRun(lake, request, members, cls(entry), device, progress or (lambda _: None))
    return run.run(_annotators(lake, catalog, cls, entry, members, run.models))


def _annotators(
    lake: Lake, catalog: Catalog, cls: type[Stage], entry: ModelEntry, group: Group, models: ModelStore
) -> list[Annotator]:
    """The chain down to this stage, registered; empty while an upstream stage never ran."""
    if cls.upstream and not annotator_chain(catalog, models, cls.upstream, group.models):
        return []
    for _, network in sorted(entry.networks.items()):
        if models.weights_digest(network) is None:  # else the stage fetches, and checks, them when it loads
            from etl.models.load import materialise

            materialise(models, network)
    chain = annotator_chain(catalog, models, cls.name, group.models)
    if chain:
        register(lake, chain[-1], group.source)
    return chain


class _GroupRun:
    """One call of ``run_stage``."""

    def __init__(
        self,
        lake: Lake,
        request: Request,
        group: Group,
        stage: Stage,
        device: str,
        watch: Callable[[Progress], None],
    ) -> None:
        self.models = ModelStore(lake.store, lake.settings.scratch / "models")
        self._lake, self._request, self._group, self._stage, self._watch = lake, request, group, stage, watch
        self._engine = Engine(stage, self.models, device)

    @cached_property
    def _snapshot(self) -> Snapshot:
        return Snapshot.take(self._lake)

    def run(self, chain: Sequence[Annotator]) -> tuple[StageSummary, GroundlakeError | None]:
        """Work all orders of the group."""
        start = time.monotonic()
        shards = self._group.shards
        if not chain:
            waiting = count_images(self._snapshot, shards)
            note = f"upstream has not run: {self._stage.upstream} comes first"
            return self._summary([], [], waiting, start, note), None
        worker = OrderWorker(self._lake, self._engine, _makers(self._stage, chain))
        reports: list[OrderReport] = []
        failures: list[tuple[str, GroundlakeError]] = []
        for number, shard in enumerate(shards):
            try:
                order = self._order(chain, shard)
                if order is not None:
                    where = Progress(self._stage.name, shard, number, len(shards), 0, 0, 0, 0)
                    reports.append(worker.work(order, self._watch, where))
            except (StoppedError, DeviceError):
                raise
            except Exception as error:  # typed, named, and raised once the other orders are done
                known = isinstance(error, GroundlakeError)
                log.error("stage %s, shard %s: %s", self._stage.name, shard, error, exc_info=not known)
                failures.append((shard, _typed(error)))
        waiting = count_waiting(self._snapshot, shards, chain)
        note = f"{waiting} images wait for stage {self._stage.upstream}" if waiting else ""
        failure = _combined(self._stage.name, failures, len(shards)) if failures else None
        return self._summary(chain, reports, waiting, start, note), failure

    def _order(self, chain: Sequence[Annotator], shard: str) -> Order | None:
        """The order of a shard: the one that exists, else a new one; None when no image needs the stage.

        An empty list is not kept: nothing was written under its key, so whoever comes later may still fix a list.
        """
        annotator = chain[-1]
        key = digest(self._stage.name, annotator.annotator_id, self._request.name, shard)
        known = read_order(self._lake, key)
        if known is not None:
            return known
        items = order_items(self._snapshot, [shard], chain, force=self._request.force)
        if not items:
            return None
        header = {
            "stage": self._stage.name,
            "annotator_id": annotator.annotator_id,
            "request": self._request.name,
            "requested_at": self._request.requested_at,
            "shard": shard,
            "upstream": {a.entry.stage: a.annotator_id for a in chain[:-1]},
        }
        return open_order(self._lake, key, header, lambda: items)

    def _summary(
        self, chain: Sequence[Annotator], reports: Sequence[OrderReport], waiting: int, start: float, note: str
    ) -> StageSummary:
        entry = self._stage.entry
        return StageSummary(
            stage=self._stage.name,
            model=entry.name,
            annotator_id=chain[-1].annotator_id if chain else "",
            untrained=entry.untrained,
            orders=len(reports),
            counts=add_counts(report.counts for report in reports),
            worked=sum(report.worked for report in reports),
            waiting=waiting,
            seconds=time.monotonic() - start,
            network_seconds=self._engine.network_seconds,
            decode_wait_seconds=sum(report.decode_wait_seconds for report in reports),
            note=note,
        )


def _makers(stage: Stage, chain: Sequence[Annotator]) -> list[Maker]:
    """Who made each table that the stage reads.

    Raises:
        ConfigurationError: No stage before it writes one of them.
    """
    makers = {
        table: Maker(table, annotator.entry.stage, annotator.annotator_id)
        for annotator in chain[:-1]
        for table in stage_class(annotator.entry.stage).tables
    }
    missing = sorted(set(stage.reads) - set(makers))
    if missing:
        raise ConfigurationError(f"stage {stage.name!r} reads {missing}, which no stage before it writes")
    return [makers[table] for table in stage.reads]


def _typed(error: Exception) -> GroundlakeError:
    if isinstance(error, GroundlakeError):
        return error
    if isinstance(error, OSError):  # a disk or a network outside the store, such as that of the scratch folder
        typed: GroundlakeError = RetryableError(words(error), remedy="mend the cause and run it again: it resumes")
    else:
        typed = GroundlakeError(words(error), remedy="this is a bug: report it with the traceback above")
    typed.__cause__ = error
    return typed


def _combined(stage: str, failures: Sequence[tuple[str, GroundlakeError]], orders: int) -> GroundlakeError:
    """The error a task ends with: a retryable one where there is any, since a retry resumes just what failed."""
    chosen = next((error for _, error in failures if isinstance(error, RetryableError)), failures[0][1])
    named = "; ".join(f"shard {shard[:12]}: {type(error).__name__}: {error.message}" for shard, error in failures)
    chosen.message = f"stage {stage}: {len(failures)} of {orders} orders failed, the others are committed. {named}"
    return chosen
