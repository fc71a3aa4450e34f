"""From upstream's keys to those of the network that reads them; every key is accounted for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from etl.models.checkpoints.errors import QuantisedError, WrongKeysError

Shape = tuple[int, ...]
State = dict[str, torch.Tensor]
# Numbers as networks are trained and published in; integers and 8-bit kinds mean nothing without their scales.
NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Report:
    """What became of a checkpoint's keys.

    Attributes:
        renamed: The keys that were kept, each with its names in the converted folder: several where it was split or
            is needed twice.
        dropped: The keys that were left out, each with the reason.
        missing: What the network needs and was not there; of a finished conversion none.
        unexpected: Keys of no use and without a reason, which were left out: of families only whose authors' own loader
            reads past them.
    """

    renamed: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyMap:
    """How the keys of a family are renamed. All patterns are searched anywhere in a key.

    Attributes:
        drops: Patterns of keys that inference does not need, each with the reason.
        splits: Patterns of tensors that several parameters were stacked into along their rows, each with the
            replacements that name the parts, from the first rows to the last.
        copies: Patterns of tensors that the network holds more than once, each with the replacements.
        names: Replacements of parts of keys; all that match apply, in this order.
        strict: Whether a key of no use and without a reason is refused; else it is left out and listed.
    """

    drops: tuple[tuple[str, str], ...] = ()
    splits: tuple[tuple[str, tuple[str, ...]], ...] = ()
    copies: tuple[tuple[str, tuple[str, ...]], ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    strict: bool = True

    def reason(self, key: str) -> str | None:
        """Why a key is dropped, or None when it is not."""
        return next((reason for pattern, reason in self.drops if re.search(pattern, key)), None)

    def targets(self, key: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """What becomes of one key: new names and tensors, which are views."""
        for pattern, replacements in self.splits:
            if re.search(pattern, key):
                # A number of rows that cannot be split gives parts of wrong shapes, which is reported as such.
                parts = torch.tensor_split(tensor, len(replacements)) if tensor.dim() else [tensor] * len(replacements)
                for replacement, part in zip(replacements, parts, strict=True):
                    yield self._renamed(re.sub(pattern, replacement, key)), part
                return
        for pattern, replacements in self.copies:
            if re.search(pattern, key):
                for replacement in replacements:
                    yield self._renamed(re.sub(pattern, replacement, key)), tensor
                return
        yield self._renamed(key), tensor

    def _renamed(self, key: str) -> str:
        for pattern, replacement in self.names:
            key = re.sub(pattern, replacement, key)
        return key


def map_keys(
    path: Path, family: str, state: Mapping[str, torch.Tensor], keys: KeyMap, wanted: Mapping[str, Shape]
) -> tuple[State, Report]:
    """The tensors of a network by its own names, and what became of each key.

    Args:
        path: The checkpoint, for messages.
        family: What it is given as.
        state: Its tensors.
        keys: How the family's keys are renamed.
        wanted: Names and shapes of the network's parameters.

    Raises:
        WrongKeysError: A parameter has no tensor or two, a shape differs, or a key has neither use nor a reason to be
            dropped, where ``keys`` are strict.
        QuantisedError: A tensor that is needed does not hold floating-point numbers.
    """
    tensors: State = {}
    renamed: dict[str, tuple[str, ...]] = {}
    dropped: dict[str, str] = {}
    unexpected: list[str] = []
    twice: list[str] = []
    shapes: dict[str, str] = {}
    for key, tensor in state.items():
        reason = keys.reason(key)
        if reason is not None:
            dropped[key] = reason
            continue
        made = dict(keys.targets(key, tensor))
        if not made.keys() <= wanted.keys():
            unexpected.append(key)
            continue
        if not made.keys().isdisjoint(tensors):
            twice.append(key)
            continue
        if tensor.dtype not in NUMBERS:
            raise QuantisedError(path, key, str(tensor.dtype).removeprefix("torch."))
        renamed[key] = tuple(made)
        tensors.update(made)
        if any(tuple(part.shape) != wanted[name] for name, part in made.items()):
            expected = " and ".join(f"{list(wanted[name])}" for name in made)
            shapes[key] = f"{list(tensor.shape)} (expected {expected})"
    missing = [name for name in wanted if name not in tensors]
    if missing or twice or shapes or (unexpected and keys.strict):
        raise WrongKeysError(path, family, missing=missing, unexpected=[*unexpected, *twice], shapes=shapes)
    return tensors, Report(renamed, dropped, unexpected=tuple(unexpected))


class Sizes:
    """The sizes of a network, read off the shapes of its checkpoint.

    Args:
        path: The checkpoint, for messages.
        family: What it is given as.
        state: Its tensors.
    """

    def __init__(self, path: Path, family: str, state: Mapping[str, torch.Tensor]) -> None:
        self._path, self._family, self._state = path, family, state

    def of(self, key: str, dimensions: int) -> Shape:
        """The shape of a tensor; raises WrongKeysError when it is not there or has other dimensions."""
        if key not in self._state:
            raise WrongKeysError(self._path, self._family, missing=[key])
        shape = tuple(self._state[key].shape)
        if len(shape) != dimensions or 0 in shape:
            text = f"{list(shape)} (expected {dimensions} dimensions, none of them 0)"
            raise WrongKeysError(self._path, self._family, shapes={key: text})
        return shape

    def has(self, key: str) -> bool:
        """Whether the checkpoint has a tensor of this name."""
        return key in self._state

    def count(self, pattern: str) -> int:
        """How many numbers from 0 on the pattern's group takes among the keys."""
        return len(self.numbers(pattern))

    def numbers(self, pattern: str) -> list[int]:
        """The numbers that the pattern's group takes at the beginning of keys, in their order."""
        return sorted({int(found[1]) for found in self._matches(pattern)})

    def _matches(self, pattern: str) -> Iterable[re.Match[str]]:
        return (found for found in (re.match(pattern, key) for key in self._state) if found)
