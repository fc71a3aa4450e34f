"""The one runner of all stages: a group's work orders, each committed on its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from etl.errors import ConfigurationError, GroundlakeError, RetryableError, StoppedError
from etl.lake import Lake, Snapshot
from etl.lake.claims import Claim, adopt
from etl.models.store import ModelStore
from etl.settings import Catalog, ModelEntry
from etl.stages.annotators import Annotator, register
from etl.stages.batches import Engine
from etl.stages.contract import Stage
from etl.stages.failures import DeviceError, words
from etl.stages.networks import fetch_weights
from etl.stages.opening import note_adopted, open_stage_order
from etl.stages.orders import OrderReport, OrderWorker
from etl.stages.planning import Group, Request, check_group, read_request
from etl.stages.progress import Progress
from etl.stages.registry import stage_class
from etl.stages.staleness import annotator_chain, count_images, count_waiting
from etl.stages.stopping import DEFAULT_LIMIT
from etl.stages.summary import StageSummary, add_counts

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
    run = _GroupRun(lake, request, group, cls(entry), device, progress or (lambda _: None))
    source = catalog.sources.get(members.source)
    limit = source.max_failed_order_share if source else DEFAULT_LIMIT
    return run.run(_annotators(lake, catalog, cls, entry, members, run.models), limit)


def _annotators(
    lake: Lake, catalog: Catalog, cls: type[Stage], entry: ModelEntry, group: Group, models: ModelStore
) -> list[Annotator]:
    """The chain down to this stage, registered; empty while an upstream stage never ran."""
    if cls.upstream and not annotator_chain(catalog, models, cls.upstream, group.models):
        return []
    for _, network in sorted(entry.networks.items()):
        if models.weights_digest(network) is None:  # else the stage fetches, and checks, them when it loads
            fetch_weights(entry, network, models)
    chain = annotator_chain(catalog, models, cls.name, group.models)
    if chain:
        register(lake, chain[-1], group.source)
    return chain


class _GroupRun:
    """One call of ``run_stage``."""

    def __init__(
        self, lake: Lake, request: Request, number: int, stage: Stage, device: str, watch: Callable[[Progress], None]
    ) -> None:
        self.models = ModelStore(lake.store, lake.settings.scratch / "models")
        self._lake, self._request, self._stage, self._watch = lake, request, stage, watch
        self._group = check_group(request, number)
        self._engine = Engine(stage, self.models, device)
        self._reports: list[OrderReport] = []
        self._adopted = 0  # images of other requests' orders
        self._failures: list[tuple[str, GroundlakeError]] = []

    def run(self, chain: Sequence[Annotator], limit: float) -> tuple[StageSummary, GroundlakeError | None]:
        """Work the orders of the group, then those of others that hold images of it back.

        Args:
            chain: The annotators down to the stage; empty while an upstream stage never ran.
            limit: Share of an order's images that may fail.
        """
        start = time.monotonic()
        if not chain:
            waiting = count_images(Snapshot.take(self._lake), self._group.shards)
            return self._summary(
                chain, waiting, start, f"upstream has not run: {self._stage.upstream} comes first"
            ), None
        worker = OrderWorker(self._lake, self._engine, limit)
        blockers: set[str] = set()
        for number, shards in enumerate(self._group.members):
            with self._noting(f"shard {shards[0][:12]}"):
                for claimed in self._own(worker, chain, number, shards):
                    blockers |= claimed.blockers
        for unit in sorted(blockers):  # after all own ones: whoever opened it may have finished it by now
            with self._noting(f"order {unit[:12]} of another request"):
                self._help(worker, chain, unit)
        waiting = count_waiting(Snapshot.take(self._lake), self._group.shards, chain) if len(chain) > 1 else 0
        notes = [f"{self._adopted} images in orders that other requests left open"] if self._adopted else []
        notes += [f"{waiting} images wait for stage {self._stage.upstream}"] if waiting else []
        failure = _combined(self._stage.name, self._failures, len(self._reports)) if self._failures else None
        return self._summary(chain, waiting, start, "; ".join(notes)), failure

    @contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        """What one order raises is raised once the others are done; only a stop or a broken device ends all at once."""
        try:
            yield
        except (StoppedError, DeviceError):
            raise
        except Exception as error:  # typed and named below
            known = isinstance(error, GroundlakeError)
            log.error("stage %s, %s: %s", self._stage.name, name, error, exc_info=not known)
            self._failures.append((name, _typed(error)))

    def _own(
        self, worker: OrderWorker, chain: Sequence[Annotator], number: int, shards: Sequence[str]
    ) -> Iterator[Claim]:
        """Work this request's orders over some shards: one, unless more images became stale since it was planned."""
        where = Progress(self._stage.name, shards[0], number, len(self._group.members), 0, 0, 0, 0)
        for part in count():
            claimed = open_stage_order(self._lake, self._request, self._group, chain, shards, part)
            yield claimed
            if claimed.order is None:
                return
            self._reports.append(worker.work(claimed.order, self._watch, where))
            if not claimed.order.header.get("more"):
                return

    def _help(self, worker: OrderWorker, chain: Sequence[Annotator], unit: str) -> None:
        """Finish an order of another request, unless it is finished or was fenced: a fenced one is never worked."""
        if self._lake.table("outcomes").transaction_version(unit) is not None:
            return
        note_adopted(self._lake, self._request.key, unit, self._stage.name)
        order = adopt(self._lake, unit)
        members = len(self._group.members)
        where = Progress(self._stage.name, order.header["shard"], members - 1, members, 0, 0, 0, 0)
        report = worker.work(order, self._watch, where, helping=True)
        self._reports.append(report)
        self._adopted += sum(report.counts.values())

    def _summary(self, chain: Sequence[Annotator], waiting: int, start: float, note: str) -> StageSummary:
        entry, reports = self._stage.entry, self._reports
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


def _typed(error: Exception) -> GroundlakeError:
    if isinstance(error, GroundlakeError):
        return error
    if isinstance(error, OSError):  # a disk or a network outside the store, such as that of the scratch folder
        typed: GroundlakeError = RetryableError(words(error), remedy="mend the cause and run it again: it resumes")
    else:
        typed = GroundlakeError(words(error), remedy="this is a bug: report it with the traceback above")
    typed.__cause__ = error
    return typed


def _combined(stage: str, failures: Sequence[tuple[str, GroundlakeError]], committed: int) -> GroundlakeError:
    """The error a task ends with: a retryable one where there is any, since a retry resumes just what failed."""
    chosen = next((error for _, error in failures if isinstance(error, RetryableError)), failures[0][1])
    named = "; ".join(f"{name}: {type(error).__name__}: {error.message}" for name, error in failures)
    total = len(failures) + committed
    chosen.message = f"stage {stage}: {len(failures)} of {total} orders failed, the others are committed. {named}"
    return chosen
