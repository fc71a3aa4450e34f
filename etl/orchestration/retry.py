"""How a task ends and whether it is tried again: a property of the error's type, never of its text."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from etl.errors import EXIT_BAD_CONFIGURATION, EXIT_BAD_DATA, EXIT_RETRY, ConfigurationError, DataError

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRIES = 3
FIRST_DELAY = timedelta(seconds=10)
LONGEST_DELAY = timedelta(minutes=10)

_EXIT_USAGE = 2  # of the command line's parser: this Airflow and the image have different versions of groundlake
_FINAL = {EXIT_BAD_DATA: "bad data", EXIT_BAD_CONFIGURATION: "bad configuration", _EXIT_USAGE: "unknown command"}


class StageBadData(AirflowFailException):
    """The command said that its data or configuration is wrong: trying again changes nothing."""


class StageRetryable(AirflowException):
    """The place failed, or nobody knows what did: tried again with growing delays."""


def error_of_exit(code: int | None, what: str, last_words: str = "") -> AirflowException:
    """The exception for a command that ended with ``code``.

    Args:
        code: Exit status, negative for a signal, or None when nobody saw it (evicted pod, lost node).
        what: The command, for the message.
        last_words: The end of its output.
    """
    words = f"\n{last_words.strip()}" if last_words.strip() else ""
    if code in _FINAL:
        return StageBadData(f"{what} ended with {code} ({_FINAL[code]}); it is not tried again.{words}")
    if code == EXIT_RETRY:
        return StageRetryable(f"{what} ended with {code}: the place failed, or it was stopped.{words}")
    if code is None:
        return StageRetryable(f"{what} ended without an exit status (evicted, or its node was lost).{words}")
    how = f"was killed by signal {-code}" if code < 0 else f"ended with {code} (unexpected)"
    return StageRetryable(f"{what} {how}.{words}")


class GroundlakeRetryPolicy(ExceptionRetryPolicy):
    """Wrong data and configuration fail at once; everything else is tried again, each time after twice the delay."""

    def __init__(self) -> None:
        final = RetryRule(
            exception=[ConfigurationError, DataError],
            action=RetryAction.FAIL,
            reason="wrong data or configuration: trying again changes nothing",
        )
        again = RetryRule(exception=Exception, action=RetryAction.RETRY, reason="tried again with growing delays")
        super().__init__(rules=[final, again])

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        decision = super().evaluate(exception, try_number, max_tries, context)
        if decision.action is RetryAction.FAIL:
            return decision
        doubled = FIRST_DELAY * 2 ** min(try_number - 1, 16)
        return RetryDecision.retry(min(doubled, LONGEST_DELAY), decision.reason)
