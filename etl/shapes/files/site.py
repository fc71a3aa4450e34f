"""Numbered scenes as the files of a web site."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from etl.shapes.files.encode import encode
from etl.shapes.world.scene import Scene
from etl.shapes.world.splits import Split, numbered_scene


class Served(NamedTuple):
    """One picture of a site: its url, what it shows, and its file."""

    url: str
    scene: Scene
    path: Path


def write_scenes(folder: Path, base_url: str, numbers: Iterable[int], split: Split = "test") -> list[Served]:
    """Write encoded scenes of a split into ``folder``, named by their numbers; the same ones every time.

    Args:
        folder: What is, or will be, served.
        base_url: Where ``folder`` is served, without a slash at its end.
        numbers: The scenes.
        split: Theirs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in numbers:
        scene = numbered_scene(split, number)
        file = encode(scene, number)
        path = folder / f"{number:04d}.{file.suffix}"
        path.write_bytes(file.data)
        made.append(Served(f"{base_url}/{path.name}", scene, path))
    return made
