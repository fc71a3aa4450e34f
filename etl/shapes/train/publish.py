"""``python -m etl.shapes.train.publish NAME``: put a trained network into the package, and its digits into the catalog.

The card lies beside the folder, not in it: to correct a card is not to change the weights.
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from etl.errors import ConfigurationError, GroundlakeError
from etl.models.folders import check_folder
from etl.models.load import PACKAGE
from etl.models.store import folder_digest
from etl.settings.catalog import SHIPPED
from etl.shapes.train.__main__ import PLANS
from etl.shapes.train.cards import Made, card
from etl.shapes.train.loop import CHECKPOINT

WEIGHTS = PACKAGE / "shapes" / "weights"
MODELS = SHIPPED / "models"
LIMIT = 12_000_000  # bytes of all networks together: they travel with every installation
FAMILIES = {
    "tagger": "ram",
    "grounder": "groundingdino",
    "segmenter": "sam",
    "captioner": "blip2",
    "embedder": "clip-text",
}


@dataclass(frozen=True)
class Published:
    """What was written: the folder's sha256, the size of all networks in bytes, the catalog files that name it."""

    digest: str
    total: int
    catalog: tuple[Path, ...]


def publish(name: str, trained: Path, weights: Path = WEIGHTS, models: Path = MODELS) -> Published:
    """Copy ``<trained>/<name>/network`` to ``<weights>/<name>``, write its card, and name its digits in the catalog.

    Args:
        name: One of the networks of the pack.
        trained: The folder that training wrote to; nothing may be training in it now.
        weights: Where the package keeps its networks.
        models: The catalog files of models.

    Raises:
        ConfigurationError: There is nothing trained, it is not whole or too large, or no catalog file names it.
    """
    network, place, catalog = trained / name / "network", weights / name, _naming(name, models)
    check_folder(network, FAMILIES[name])
    made = _made(name, trained / name, network)
    total = made.size + sum(_size(other) for other in weights.glob("*/") if other.name != name)
    if total > LIMIT:
        raise ConfigurationError(
            f"with {name} ({made.size / 1e6:.1f} MB) the networks would have {total / 1e6:.1f} MB together",
            remedy=f"{LIMIT / 1e6:.0f} MB are the most that the package carries: make one of them smaller",
        )
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for file in sorted(network.iterdir()):
        shutil.copyfile(file, place / file.name)  # without its mode: only its owner may read it
    (weights / f"{name}.md").write_text(card(name, made))
    for file in catalog:
        file.write_text(_named(name).sub(rf"\g<1>{made.digest[:12]}", file.read_text()))
    return Published(made.digest, total, catalog)


def _made(name: str, folder: Path, network: Path) -> Made:
    try:
        checkpoint: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{folder} holds no {CHECKPOINT}: {error}", remedy=f"train it: python -m etl.shapes.train {name}"
        ) from error
    return Made(
        plan=PLANS[name],
        steps=checkpoint["step"],
        seconds=checkpoint["seconds"],
        drawn=checkpoint["drawn"],
        parameters=_parameters(network / "model.safetensors"),
        size=_size(network),
        digest=folder_digest(network),
        scores=checkpoint["scores"],
    )


def _parameters(file: Path) -> int:
    try:
        with safe_open(file, "pt") as tensors:
            return sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error}", remedy="wait until its training has written it whole"
        ) from error


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _named(name: str) -> re.Pattern[str]:
    return re.compile(rf"(packaged:shapes/{name}@)[0-9a-f]{{12}}")


def _naming(name: str, models: Path) -> tuple[Path, ...]:
    """The catalog files that name the network."""
    files = tuple(file for file in sorted(models.glob("*.yaml")) if _named(name).search(file.read_text()))
    if not files:
        raise ConfigurationError(f"no file of {models} names packaged:shapes/{name}", remedy="add it to one first")
    return files


def main() -> None:
    """Publish the networks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m etl.shapes.train.publish", description=__doc__)
    parser.add_argument("network", choices=sorted(PLANS), nargs="+")
    parser.add_argument("--from", type=Path, default=Path(".train"), dest="trained", help="folder that training wrote")
    given = parser.parse_args()
    for name in given.network:
        try:
            done = publish(name, given.trained)
        except GroundlakeError as error:
            sys.exit(str(error))
        sys.stdout.write(
            f"{name}: packaged:shapes/{name}@{done.digest[:12]} in {', '.join(file.name for file in done.catalog)}; "
            f"{done.total / 1e6:.2f} of {LIMIT / 1e6:.0f} MB\n"
        )


if __name__ == "__main__":
    main()
