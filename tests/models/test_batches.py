"""Model batches: of one shape where a device's last bits would else show who shared a batch."""

import pytest

from etl.models.batches import fill, model_batches, steady_size


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", [([0, 1, 2], 3), ([3, 4], 2)]),
        ("bfloat16", [([0, 1, 2], 3), ([3, 4, 4], 2)]),
    ],
)
def test_the_last_batch_is_filled_up_unless_in_float32(dtype: str, expected: list[tuple[list[int], int]]):
    assert list(model_batches(range(5), 3, dtype)) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_gives_no_batch(dtype: str):
    assert list(model_batches([], 3, dtype)) == []


def test_only_a_cpu_in_float32_is_asked_for_one_at_a_time():
    assert [steady_size(8, *where) for where in (("cpu", "float32"), ("cpu", "bfloat16"), ("cuda:0", "float32"))] == [
        1,
        8,
        8,
    ]


def test_a_full_batch_is_left_as_it_is():
    assert fill([1, 2], 2) == [1, 2]
