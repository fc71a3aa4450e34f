"""The networks of a catalog entry: whether a stage can use them, and how they are opened. No import of torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.errors import ConfigurationError
from etl.models.contracts import Task
from etl.models.families import FAMILIES, open_network
from etl.models.store import ModelStore
from etl.reference.folders import check_upstream_folder
from etl.reference.tasks import check_task
from etl.settings import ModelEntry, Network


def check_roles(entry: ModelEntry, stage: str, needed: Mapping[str, Task], optional: Mapping[str, Task]) -> None:
    """Refuse an entry whose networks are not those of a stage's roles, or do something else.

    Raises:
        ConfigurationError: A role is missing, surplus, or has a network of a family for another task.
    """
    given = set(entry.networks)
    if not set(needed) <= given <= set(needed) | set(optional):
        also = f" and may have {sorted(optional)}" if optional else ""
        raise ConfigurationError(
            f"model {entry.name!r}: networks {sorted(given)}, but stage {stage!r} needs {sorted(needed)}{also}"
        )
    for role, network in entry.networks.items():
        task = {**needed, **optional}[role]
        if task not in FAMILIES[network.family].loaders:
            able = sorted(name for name, family in FAMILIES.items() if task in family.loaders)
            raise ConfigurationError(
                f"model {entry.name!r}: networks.{role}.family: got {network.family!r}, which is no {task}",
                remedy=f"give this role a network of the family {' or '.join(able)}",
            )
    if entry.engine == "reference":
        _check_reference(entry, {**needed, **optional})


def _check_reference(entry: ModelEntry, tasks: Mapping[str, Task]) -> None:
    """Refuse what upstream's own packages cannot do; a folder is looked at where this machine has it."""
    if entry.dtype != "float32" or entry.switches:
        raise ConfigurationError(
            f"model {entry.name!r}: the reference engine computes in float32, as upstream does, and has no switches",
            remedy="leave 'dtype', 'attention' and 'compile' out of the model's file, or 'engine'",
        )
    for role, network in entry.networks.items():
        check_task(network.family, tasks[role])
        kind, _, place = network.weights.partition(":")
        if kind != "file":
            raise ConfigurationError(
                f"model {entry.name!r}: networks.{role}.weights: got {network.weights!r}, which is converted for our "
                "own engine; the reference engine reads upstream's files",
                remedy="name a folder that holds them: file:<folder>",
            )
        folder = Path(place).expanduser()
        if folder.is_dir():
            check_upstream_folder(folder, network.family)


def fetch_weights(entry: ModelEntry, network: Network, models: ModelStore) -> Path:
    """A checked local copy of the weights of one of an entry's networks, added to the model store if need be.

    Raises:
        ConfigurationError: They are absent, wrong or not whole.
    """
    from etl.models.load import materialise

    if entry.engine == "reference":
        return materialise(models, network, check_upstream_folder)
    return materialise(models, network)


def open_role(entry: ModelEntry, role: str, task: Task, models: ModelStore, device: str, *, exact: bool = False) -> Any:
    """The network of a role, on a device: an object that fulfils the protocol of the task.

    Args:
        entry: The catalog entry.
        role: One of its networks.
        task: What the role does.
        models: Where the weights are.
        device: ``cpu`` or ``cuda:N``.
        exact: Whether it computes in float32 without the entry's switches.

    Raises:
        ConfigurationError: Its weights are absent, wrong or not whole; or there is no reference environment.
        WorkerLostError: The reference engine died.
    """
    network = entry.networks[role]
    folder = fetch_weights(entry, network, models)
    if entry.engine == "reference":
        from etl.reference.engines import open_reference

        return open_reference(network.family, task, folder, device)
    if exact:
        return open_network(network.family, task, folder, device, "float32")
    return open_network(network.family, task, folder, device, entry.dtype, **entry.switches)
