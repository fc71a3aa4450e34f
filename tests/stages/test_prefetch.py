"""Threads work ahead of their consumer: in order, within bounds, and their errors arrive where results do."""

from __future__ import annotations

import threading

import pytest

from etl.stages.prefetch import Prefetcher


def test_results_come_in_order_with_their_inputs():
    prefetcher = Prefetcher(lambda n: n * n, threads=4, ahead=3)

    assert list(prefetcher.over(range(20))) == [(n, n * n) for n in range(20)]


def test_nothing_in_gives_nothing_out():
    assert list(Prefetcher(lambda n: n, threads=2, ahead=2).over([])) == []


@pytest.mark.parametrize(("ahead", "weight", "most"), [(3, 100, 3), (10, 4, 4), (10, 0, 1)])
def test_no_more_than_the_bounds_are_in_work_or_waiting(ahead, weight, most):
    begun: list[int] = []
    prefetcher = Prefetcher(
        lambda n: begun.append(n) or n, threads=4, ahead=ahead, weigh=lambda _: 1, max_weight=weight
    )
    for taken, _ in enumerate(prefetcher.over(range(30))):
        assert len(begun) - taken <= most


def test_one_input_heavier_than_the_bound_still_passes():
    assert len(list(Prefetcher(lambda n: n, threads=1, ahead=2, weigh=lambda _: 99, max_weight=1).over(range(3)))) == 3


def test_an_error_is_raised_where_its_result_is_taken():
    def work(number: int) -> int:
        if number == 1:
            raise OSError("disk")
        return number

    results = Prefetcher(work, threads=2, ahead=5).over(range(3))

    assert next(results) == (0, 0)
    with pytest.raises(OSError, match="disk"):
        next(results)


def test_threads_end_when_the_consumer_stops_early():
    results = Prefetcher(lambda n: n, threads=3, ahead=5).over(range(100))
    next(results)
    results.close()

    assert [thread for thread in threading.enumerate() if thread.name.startswith("decode")] == []


def test_the_consumers_wait_is_measured():
    gate = threading.Event()
    prefetcher = Prefetcher(lambda _: gate.wait(5), threads=1, ahead=1)
    threading.Timer(0.05, gate.set).start()
    list(prefetcher.over([0]))

    assert prefetcher.waited >= 0.04
