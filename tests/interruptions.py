"""Something happens to a process while it writes: it is killed, or another process does all of its own work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from etl.ingest import planning as ingest_planning
from etl.lake import Lake, claims


class Killed(BaseException):
    """The process ends here; no handler of ours may catch it."""


@contextmanager
def at_write(lake: Lake, number: int, then: Callable[[], object]) -> Iterator[None]:
    """Have ``then`` happen at the ``number``-th write to the lake, from 0; before it if even, after it if odd."""
    seen = 0

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            nonlocal seen
            mine, seen = seen, seen + 1
            if mine == number and mine % 2 == 0:
                then()
            answer = real(*given, **options)
            if mine == number and mine % 2 == 1:
                then()
            return answer

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (lake.store, "put"),
            (lake.store, "put_if_absent"),
            (lake, "commit"),
            (claims, "append_guarded"),
            (ingest_planning, "append_guarded"),
        ):
            patch.setattr(owner, name, watched(getattr(owner, name)))
        yield


def kill() -> None:
    """End the process, for ``at_write``."""
    raise Killed
