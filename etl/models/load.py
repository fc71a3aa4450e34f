"""From a catalog's network to a local folder of its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import etl
from etl.errors import ConfigurationError
from etl.models.folders import check_folder
from etl.models.store import ModelStore, folder_digest
from etl.settings import Network

PACKAGE = Path(etl.__file__).parent


def materialise(models: ModelStore, network: Network, check: Callable[[Path, str], object] = check_folder) -> Path:
    """A checked local copy of the network's weights, added to the model store when they are not there yet.

    ``packaged:<pack>/<network>@<digits>`` is copied from this package once; the digits say which weights are meant.
    ``file:<folder>`` is copied into the store once; afterwards the folder is needed no more.
    ``catalog:<name>`` comes from the store only: nothing is downloaded while a stage runs.

    Args:
        models: The model store.
        network: The network.
        check: Refuses a folder that does not hold weights of a family, before it is added.

    Raises:
        ConfigurationError: The folder is missing, of another family, or has changed since it was added; or the
            package carries other weights.
        WeightsAbsentError: Nobody has put the catalog's weights into the store.
        WeightsChangedError: A stored file is not the one that was added.
    """
    kind, _, text = network.weights.partition(":")
    stored = models.weights_digest(network)
    if kind == "file":
        _add_folder(models, network, Path(text).expanduser(), stored, check)
    elif kind == "packaged" and stored is None:
        models.add(network, packaged_folder(network))
    return models.fetch(network)


def packaged_folder(network: Network) -> Path:
    """The folder of a network whose weights this package carries.

    Raises:
        ConfigurationError: There is none, or its weights are not those that the catalog names.
    """
    name, _, digits = network.weights.removeprefix("packaged:").partition("@")
    pack, _, part = name.partition("/")
    folder = PACKAGE / pack / "weights" / part
    check_folder(folder, network.family)
    found = folder_digest(folder)[:12]
    if found != digits:
        raise ConfigurationError(
            f"this groundlake carries other weights of {name} ({found}) than the catalog names ({digits})",
            remedy=f"for those it carries, write packaged:{name}@{found} into the catalog under another model name",
        )
    return folder


def _add_folder(
    models: ModelStore, network: Network, folder: Path, stored: str | None, check: Callable[[Path, str], object]
) -> None:
    if stored is None:
        check(folder, network.family)
        models.add(network, folder)
    elif folder.is_dir() and folder_digest(folder) != stored:
        raise ConfigurationError(
            f"{folder} has changed since it was added to the model store of {models.store.uri}",
            remedy="give the new weights a folder of their own and name it in the catalog: results stay told apart",
        )
