"""The failure call-back of an installation: named by a setting, imported when a task has failed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from etl.errors import ConfigurationError
from etl.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context


def failure_callback() -> Callable[[Context], None] | None:
    """What Airflow calls when a task has failed for good, or None when ``GROUNDLAKE_FAILURE_CALLBACK`` is not set.

    Raises:
        ConfigurationError: The setting is not ``module:function``.
    """
    name = load_settings().failure_callback
    if name is None:
        return None
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ConfigurationError(
            f"GROUNDLAKE_FAILURE_CALLBACK={name!r}: expected module:function",
            remedy="set it to something like 'my_company.alerts:task_failed', importable by Airflow, or unset it",
        )

    def call(context: Context) -> None:
        _find(module, function)(context)

    call.__name__ = f"call_{function}"
    return call


def _find(module: str, function: str) -> Callable[[Context], None]:
    remedy = "correct GROUNDLAKE_FAILURE_CALLBACK, or put the module on Airflow's PYTHONPATH"
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"the failure call-back {module}:{function} cannot be imported: {error}", remedy=remedy
        ) from error
    if not callable(found):
        raise ConfigurationError(f"the failure call-back {module}:{function} is not a function", remedy=remedy)
    return cast("Callable[[Context], None]", found)
