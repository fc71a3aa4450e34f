from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException

from etl.errors import ConfigurationError, DataError, RetryableError
from etl.orchestration.retry import (
    FIRST_DELAY,
    LONGEST_DELAY,
    GroundlakeRetryPolicy,
    StageBadData,
    StageRetryable,
    error_of_exit,
)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (65, StageBadData),
        (78, StageBadData),
        (2, StageBadData),  # the command is not known: another version
        (75, StageRetryable),
        (1, StageRetryable),  # nobody knows: may be the place
        (-9, StageRetryable),  # out of memory
        (137, StageRetryable),  # the same, seen through a shell or a pod
        (None, StageRetryable),  # evicted pod, lost node
    ],
)
def test_exit_status_decides_whether_a_command_is_tried_again(code: int | None, expected: type) -> None:
    assert type(error_of_exit(code, "groundlake stage run tag")) is expected


def test_bad_data_ends_a_task_without_asking_the_retry_policy() -> None:
    assert issubclass(StageBadData, AirflowFailException)


def test_message_names_the_command_its_end_and_its_last_words() -> None:
    message = str(error_of_exit(65, "groundlake stage run tag", "no column 'url' in list.csv\n"))
    assert "groundlake stage run tag ended with 65 (bad data)" in message
    assert "no column 'url'" in message


@pytest.mark.parametrize("error", [ConfigurationError("x"), DataError("x")])
def test_wrong_data_or_configuration_fails_at_once(error: Exception) -> None:
    assert GroundlakeRetryPolicy().evaluate(error, 1, 3).action is RetryAction.FAIL


@pytest.mark.parametrize("error", [StageRetryable("x"), RetryableError("x"), OSError("x")])
def test_everything_else_is_tried_again_after_twice_the_delay_each_time(error: Exception) -> None:
    delays = [GroundlakeRetryPolicy().evaluate(error, number, 3).retry_delay for number in (1, 2, 3)]
    assert delays == [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4]


def test_delays_stop_growing() -> None:
    assert GroundlakeRetryPolicy().evaluate(OSError(), 1000, 1000).retry_delay == LONGEST_DELAY >= timedelta(minutes=5)
