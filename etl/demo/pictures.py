"""The sample source: scenes with known truth, the failures a crawl meets, the url list, and what must become of it."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from etl.demo.server import ANSWERS
from etl.shapes.files.awkward import awkward_pictures, broken_files, strips
from etl.shapes.files.site import Served, write_scenes
from etl.shapes.files.truth import TruthFiles, truth_files, write_truth
from etl.shapes.world.scene import Scene

VERSION = 2  # raised when the pictures or the list change; part of every url, for urls are identity
LIST, KNOWN = "urls.parquet", "sample.json"
SCENES = 200


@dataclass(frozen=True)
class SampleSource:
    """What was made.

    Attributes:
        list_path: Parquet file with the columns ``url`` and ``caption``.
        expected: Urls by what must become of them: ``ok``, ``duplicate``, or an error class of a failure.
        n_urls: Distinct urls, the sum of ``expected``.
        list_duplicates: Rows of the list whose url came earlier in it.
    """

    list_path: Path
    expected: dict[str, int]
    n_urls: int
    list_duplicates: int

    @property
    def truth(self) -> TruthFiles:
        """The truth about every picture that is ``ok``, beside the list."""
        return truth_files(self.list_path.parent)


@dataclass
class _Site:
    """The site while it is built: files, special answers, the list's rows with their expected fate, and the truth."""

    folder: Path
    base_url: str
    rows: list[tuple[str, str | None, str]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    truth: list[tuple[str, Scene]] = field(default_factory=list)

    def add(self, path: str, fate: str, data: bytes | None = None, caption: str | None = None, **answer: Any) -> None:
        """Put a file and its row; ``answer`` is what the server does instead of only serving the file."""
        file = self.folder / path
        if data is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        if answer:
            self.answers[f"/{self.folder.name}/{path}"] = answer
        self.rows.append((f"{self.base_url}/{path}", caption, fate))

    def add_scene(self, path: str, scene: Scene, data: bytes | None = None, **answer: Any) -> None:
        """Put a picture that must enter the lake, its sentence as its caption, and its truth."""
        self.add(path, "ok", data, scene.sentence, **answer)
        self.truth.append((f"{self.base_url}/{path}", scene))


def place_of(folder: Path) -> Path:
    """Where ``make_source`` puts its pictures and its list: another version's lie beside them."""
    return folder / f"v{VERSION}"


def make_source(folder: Path, base_url: str) -> SampleSource:
    """Make the pictures, their truth and the list below ``folder``, unless they are there.

    The same arguments make the same bytes; urls are identity, so keep the port of ``base_url`` between runs.

    Args:
        folder: Served by ``etl.demo.server``; what was in this version's part of it is replaced.
        base_url: Where the server will be, without a slash at its end.
    """
    place = place_of(folder)
    known, wanted = place / KNOWN, {"version": VERSION, "scenes": SCENES, "base_url": base_url}
    if known.is_file():
        content = json.loads(known.read_text())
        if {key: content.get(key) for key in wanted} == wanted:
            return SampleSource(place / LIST, **content["source"])
    shutil.rmtree(place, ignore_errors=True)
    site = _Site(place, f"{base_url}/{place.name}")
    pictures = _add_scenes(site)
    _add_awkward(site)
    _add_duplicates(site, pictures)
    _add_failures(site, pictures)
    repeated = site.rows[:2]  # as url lists do
    rows = site.rows + repeated
    random.Random(VERSION).shuffle(rows)  # noqa: S311 - reproducible on purpose
    pq.write_table(pa.table({"url": [row[0] for row in rows], "caption": [row[1] for row in rows]}), place / LIST)
    write_truth(place, site.truth)
    (folder / ANSWERS).write_text(json.dumps(site.answers, indent=1))
    expected = dict(sorted(Counter(fate for _, _, fate in site.rows).items()))
    source = SampleSource(place / LIST, expected, len(site.rows), len(repeated))
    content = {key: value for key, value in asdict(source).items() if key != "list_path"}
    known.write_text(json.dumps({**wanted, "source": content}, indent=1))  # last: it says that all is there
    return source


def _add_scenes(site: _Site) -> list[Served]:
    made = write_scenes(site.folder / "pictures", f"{site.base_url}/pictures", range(SCENES))
    for number, one in enumerate(made):
        late: dict[str, Any] = {"delay": 0.4} if number == 7 else {}  # within any sensible time-out
        site.add_scene(f"pictures/{one.path.name}", one.scene, **late)
    return made


def _add_awkward(site: _Site) -> None:
    for one in awkward_pictures():
        site.add_scene(f"awkward/{one.name}", one.scene, one.data)


def _add_duplicates(site: _Site, pictures: list[Served]) -> None:
    for one in pictures[::17]:
        site.add(f"mirror/{one.path.stem}", "duplicate", one.path.read_bytes(), one.scene.sentence)
    first = pictures[0]
    target = f"/{site.folder.name}/pictures/{first.path.name}"
    site.add("moved.jpg", "duplicate", caption=first.scene.sentence, redirect=target)


def _add_failures(site: _Site, pictures: list[Served]) -> None:
    for broken in broken_files([one.path.read_bytes() for one in pictures[:4]]):
        site.add(f"broken/{broken.name}", broken.fails, broken.data)
    for number in range(3):
        site.add(f"broken/pixel-{number}.png", "too_small", _png(Image.new("RGB", (8, 8), (number, 0, 0))))
    for one in strips():
        site.add(f"broken/{one.name}", "too_small", one.data)
    for number in range(12):
        site.add(f"gone/{number}.jpg", "http_404", caption=f"a picture that was here once, number {number}")
    site.add("failing.jpg", "http_500", status=500)
    site.add("private.png", "robots", pictures[1].path.read_bytes(), headers={"X-Robots-Tag": "noai"})
    site.rows.append(("ftp://example.invalid/picture.jpg", "not on the web", "bad_url"))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
