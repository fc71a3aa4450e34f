"""Which families have a reference engine, and what it does."""

from __future__ import annotations

from etl.errors import ConfigurationError, UnknownNameError

TASKS = {
    "sam": "segmenter",
    "sam-hq": "segmenter",
    "groundingdino": "grounder",
    "ram": "tagger",
    "ram-plus": "tagger",
    "tag2text": "tagger",
}


def check_task(family: str, task: str) -> None:
    """Refuse a family without a reference engine, or with one that does something else.

    Raises:
        UnknownNameError: It has none.
        ConfigurationError: It does something else.
    """
    if family not in TASKS:
        raise UnknownNameError(
            "family with a reference engine", family, list(TASKS), remedy="leave 'engine' out of the model's file"
        )
    if TASKS[family] != task:
        raise ConfigurationError(
            f"the reference engine of {family} is a {TASKS[family]}, but a {task} is needed",
            remedy="leave 'engine' out of the model's file: our own engine does both",
        )
