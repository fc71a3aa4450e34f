"""Batches through a network: halved when memory runs out, taken apart when one image breaks them."""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence

from etl.errors import ConfigurationError, RetryableError
from etl.models.store import ModelStore
from etl.stages.contract import Result, Stage, WorkItem
from etl.stages.device import device_name, resolve_device, use_allowed_cores
from etl.stages.failures import (
    ContractError,
    DeviceError,
    OutOfMemoryError,
    is_device_failure,
    is_out_of_memory,
    words,
)

log = logging.getLogger(__name__)


class BatchTooLargeError(Exception):
    """Memory ran out; the slice starts again with a smaller batch."""


class Engine:
    """A stage whose networks are loaded once, when first needed, and the batch that fits on the device.

    Args:
        stage: The stage.
        models: Where its weights are.
        device: ``auto``, ``cpu`` or ``cuda:N``; looked at when the networks are loaded.

    Attributes:
        batch_size: Images a network sees at once: the entry's general number until the networks are loaded, then the
            one measured for this kind of device, where there is one.
    """

    def __init__(self, stage: Stage, models: ModelStore, device: str) -> None:
        self.stage = stage
        self.batch_size = stage.entry.batch_size
        self.network_seconds = 0.0
        self._models, self._wanted = models, device
        self._device: str | None = None

    @property
    def device(self) -> str:
        """Name of the device for the ``runs`` table; ``none`` while no network was needed."""
        return device_name(self._device) if self._device else "none"

    def load(self) -> None:
        """Load the networks, unless they are.

        Raises:
            ConfigurationError: There is no such device, or the weights do not fit the model.
            OutOfMemoryError: The weights do not fit into memory.
        """
        if self._device is not None:
            return
        device = resolve_device(self._wanted)
        if self.stage.roles:
            use_allowed_cores()
        try:
            self.stage.load(self._models, device)
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"the networks of {self.stage.entry.name!r} do not fit on {device}: {words(error)}",
                    remedy="free memory of the device, or choose a smaller model",
                ) from error
            raise
        self._device = device
        entry = self.stage.entry
        self.batch_size = entry.batch_sizes.get(self.device, entry.batch_size)

    def shrink(self) -> None:
        """Halve the batch for the rest of this process.

        Raises:
            OutOfMemoryError: It is one image already.
        """
        gc.collect()
        if "torch" in sys.modules and self._device not in (None, "cpu"):
            sys.modules["torch"].cuda.empty_cache()
        if self.batch_size == 1:
            raise OutOfMemoryError(
                f"one image does not fit into memory of {self.device} with model {self.stage.entry.name!r}",
                remedy="free memory of the device, or choose a smaller model; finished slices stay",
            )
        self.batch_size //= 2
        log.warning("out of memory: the slice starts again with batches of %d", self.batch_size)

    def answer(self, batch: Sequence[WorkItem]) -> list[Result]:
        """One result per item; an item that alone raises becomes ``failed/error``.

        Raises:
            BatchTooLargeError: Memory ran out.
            RetryableError: The place failed.
            ConfigurationError: The stage found its settings wrong.
        """
        try:
            return self._process(batch)
        except (RetryableError, ConfigurationError):
            raise
        except OSError as error:  # decoding happened elsewhere: this is a disk, a device file, a network
            raise RetryableError(f"stage {self.stage.name!r} cannot reach something: {words(error)}") from error
        except Exception as error:  # noqa: BLE001 - sorted here; what is the image's own becomes its outcome
            failure = error
        if is_out_of_memory(failure):
            raise BatchTooLargeError(words(failure)) from failure
        if is_device_failure(failure):
            raise DeviceError(
                f"the device failed: {words(failure)}", remedy="run it again: finished slices stay"
            ) from failure
        if len(batch) == 1:
            log.warning("image %s: %s", batch[0].image_id, words(failure))
            return [Result("failed", "error", error=words(failure), retryable=True)]
        return [result for item in batch for result in self.answer([item])]

    def _process(self, batch: Sequence[WorkItem]) -> list[Result]:
        # Kernels in reduced precision change with the batch's shape: the last batch is padded to the fixed one.
        padding = self.batch_size - len(batch) if self.stage.entry.dtype != "float32" else 0
        start = time.monotonic()
        try:
            results = self.stage.process([*batch, *[batch[-1]] * padding])
        finally:
            self.network_seconds += time.monotonic() - start
        if len(results) != len(batch) + padding:
            raise ContractError(f"{len(batch) + padding} items gave {len(results)} results")
        for result in results:
            check_result(self.stage, result)
        return results[: len(batch)]


def check_result(stage: Stage, result: Result) -> None:
    """Refuse a result that the lake could not keep.

    Raises:
        ContractError: An unknown status, a missing reason, or rows of a table the stage did not declare.
    """
    if result.status not in ("ok", "empty", "failed"):
        raise ContractError(f"status {result.status!r}; known: ok, empty, failed")
    if (result.reason is None) != (result.status == "ok"):
        raise ContractError(f"status {result.status!r} with reason {result.reason!r}: all but ok need one")
    if not set(result.rows) <= set(stage.tables):
        raise ContractError(f"rows of {sorted(result.rows)}, but stage {stage.name!r} writes {list(stage.tables)}")


def batches(items: Iterable[tuple[WorkItem, Hashable]], size: int, *, mixed: bool = False) -> Iterator[list[WorkItem]]:
    """Consecutive items, of one shape unless ``mixed``, at most ``size`` at a time.

    >>> [len(batch) for batch in batches([(None, 1), (None, 1), (None, 1), (None, 2)], 2)]
    [2, 1, 1]
    >>> [len(batch) for batch in batches([(None, 1), (None, 1), (None, 1), (None, 2)], 2, mixed=True)]
    [2, 2]
    """
    batch: list[WorkItem] = []
    last: Hashable = None
    for item, shape in items:
        if batch and ((shape != last and not mixed) or len(batch) == size):
            yield batch
            batch = []
        batch.append(item)
        last = shape
    if batch:
        yield batch
