"""Tag lists and thresholds: text files beside the weights, one line per tag, never part of this project.

No import of torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from etl.errors import ConfigurationError

TAG_LIST, THRESHOLDS = "tag_list.txt", "tag_list_threshold.txt"
OFF = 1.0  # no score is above it


def read_lines(folder: Path, names: Sequence[str]) -> tuple[str, list[str]]:
    """The first file of ``names`` that a folder has, and its lines without empty ones.

    A last line without a line end is a line too.

    Raises:
        ConfigurationError: The folder has none of them, or it cannot be read, or is empty.
    """
    name = next((name for name in names if (folder / name).is_file()), None)
    if name is None:
        raise ConfigurationError(
            f"the weights folder {folder} has no readable {' or '.join(names)}",
            remedy=f"put upstream's {names[0]} beside the weights",
        )
    try:
        lines = [line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the weights folder {folder} has no readable {name}: {error}",
            remedy=f"take upstream's {names[0]} as it is",
        ) from error
    if not any(lines):
        raise ConfigurationError(f"{folder / name} is empty", remedy=f"take upstream's {names[0]} as it is")
    return name, [line for line in lines if line]


def read_tags(folder: Path, names: Sequence[str], n_tags: int) -> list[str]:
    """The tags of a folder of weights, in the order of the network's answers.

    Names may repeat: 114 words of upstream's list of Tag2Text stand there twice or thrice, as noun, verb, attribute.

    Args:
        folder: The folder.
        names: What the file may be called, the preferred name first.
        n_tags: Tags the network answers for.

    Raises:
        ConfigurationError: The file is missing or has another number of lines.
    """
    name, tags = read_lines(folder, names)
    if len(tags) != n_tags:
        raise ConfigurationError(
            f"{folder}: {len(tags)} tags in {name}, but the network answers for {n_tags}",
            remedy="take the list that belongs to the checkpoint",
        )
    return tags


def read_thresholds(folder: Path, names: Sequence[str], n_tags: int) -> npt.NDArray[np.float64]:
    """One threshold per tag: float64 [tags].

    Raises:
        ConfigurationError: The file is missing, or a line of it is no number from 0 to 1, or their number is another.
    """
    name, lines = read_lines(folder, names)
    if len(lines) != n_tags:
        raise ConfigurationError(
            f"{folder}: the network answers for {n_tags} tags, but {len(lines)} lines in {name}",
            remedy="take the list that belongs to the checkpoint",
        )
    values = np.asarray([_share(line) for line in lines], dtype=np.float64)
    for wrong in np.flatnonzero(~((values >= 0) & (values <= OFF))):
        raise ConfigurationError(
            f"{folder / name}: threshold {wrong + 1} is {lines[wrong]!r}, where a share from 0 to 1 was expected",
            remedy=f"correct it, or take upstream's {names[0]} as it is",
        )
    return values


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def made_thresholds(where: str, rule: Mapping[str, Any], n_tags: int) -> npt.NDArray[np.float64]:
    """Thresholds by a rule: float64 [tags].

    Args:
        where: What the rule is written in, for messages.
        rule: ``threshold`` of all tags, ``overrides`` from a tag's number to its own, ``deleted`` numbers of tags that
            are never given.
        n_tags: Tags the network answers for.

    Raises:
        ConfigurationError: The rule is wrong, or names a tag that there is not.
    """
    try:
        own = {int(number): float(value) for number, value in rule["overrides"].items()}
        own |= {int(number): OFF for number in rule["deleted"]}
        values = np.full(n_tags, float(rule["threshold"]), dtype=np.float64)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{where}: expected 'threshold', 'overrides' and 'deleted', got {rule!r} ({error!r})"
        ) from error
    beyond = sorted(number for number in own if not 0 <= number < n_tags)
    if beyond:
        raise ConfigurationError(f"{where} names the tags {beyond}, but there are {n_tags}")
    for number, value in own.items():
        values[number] = value
    return values
