"""From a manifest's spec to a folder a trainer reads: pinned, streamed, digested, and there whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl.errors import ConfigurationError
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest
from etl.manifests.empty import EmptyManifestError
from etl.manifests.example import Example
from etl.manifests.files import Files, settle, unfinished_folder
from etl.manifests.formats import DroppedError, Format, Plan, format_class
from etl.manifests.lock import LOCK, lock_content, read_lock, rows_digest
from etl.manifests.selection import Selection, engine_errors
from etl.manifests.splits import Splitter
from etl.settings import ManifestSpec
from etl.storage import LocalStore
from etl.viewer.pictures import PictureError, read_bytes

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BuiltManifest:
    """A manifest that lies in its folder.

    Attributes:
        name: Its name.
        version: Digest of spec and content.
        folder: Where it lies.
        built: False when this very version was there already.
        images: Images written.
        annotations: Annotations written.
        dropped: Images found but not written, by reason.
        lock: The content of ``manifest.lock.json``.
    """

    name: str
    version: str
    folder: Path
    built: bool
    images: int
    annotations: int
    dropped: dict[str, int]
    lock: dict[str, Any]


def build_manifest(
    lake: Lake, spec: ManifestSpec, out: Path | None = None, *, progress: Progress | None = None
) -> BuiltManifest:
    """Build a manifest, or find that this version of it exists.

    Args:
        lake: The lake.
        spec: SQL, format, options and splits.
        out: Folder under which ``<name>/<version>`` is made; else ``manifests/`` of the lake.
        progress: Called with images done and images in all.

    Raises:
        QueryError: The SQL is not one SELECT with a column image_id.
        EmptyManifestError: No image is left; the message says where they went.
        ConfigurationError: An option is wrong, or the place cannot be written.
        RetryableError: The disk, the store or the SQL engine failed; nothing half-written stays.
    """
    fmt = format_class(spec.format)(spec.options)
    splitter = Splitter(spec.split)
    parent = (out if out is not None else _folder_of(lake)).expanduser().resolve() / spec.name
    snapshot = Snapshot.take(lake)
    with engine_errors(), snapshot.connect(sandbox=True) as connection:
        selection = Selection(connection, spec.sql, splitter, embeddings=fmt.needs_embeddings)
        if not selection.n_images:
            raise EmptyManifestError(selection.counts)
        given = spec.model_dump(mode="json", exclude={"on_new_annotations"})
        version = digest(given, fmt.VERSION, rows_digest(selection))
        final = parent / version
        built = not (final / LOCK).is_file() and _build(lake, spec, snapshot, selection, fmt, final, progress)
    lock = read_lock(final)
    _register(lake, spec, final, lock)
    counts = lock["counts"]
    return BuiltManifest(
        name=spec.name,
        version=version,
        folder=final,
        built=built,
        images=sum(counts["images"].values()),
        annotations=sum(counts["annotations"].values()),
        dropped=counts["dropped"],
        lock=lock,
    )


def _folder_of(lake: Lake) -> Path:
    if not isinstance(lake.store, LocalStore):
        raise ConfigurationError(f"the lake {lake.uri} is no folder", remedy="pass --out FOLDER")
    return lake.store.root / "manifests"


def _build(
    lake: Lake,
    spec: ManifestSpec,
    snapshot: Snapshot,
    selection: Selection,
    fmt: Format,
    final: Path,
    progress: Progress | None,
) -> bool:
    """Write the folder of a version; returns False when a twin was first."""
    with unfinished_folder(final) as folder:
        files = Files(folder, final)
        fmt.open(files, Plan(spec.name, sorted(spec.split.shares), selection.labels()))
        counts = _write(lake, selection, fmt, progress)
        fmt.close()
        if not counts["images"].total():
            raise EmptyManifestError({**selection.counts, **counts["dropped"]})
        counts["images"].update(dict.fromkeys(spec.split.shares, 0))
        content = lock_content(spec, final.name, snapshot, selection, files.finish(), {**counts, "notes": fmt.notes})
        (folder / LOCK).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return settle(folder, final)


def _write(lake: Lake, selection: Selection, fmt: Format, progress: Progress | None) -> dict[str, Counter[str]]:
    """Give every example to the format; counts images and annotations by split, and the dropped by reason."""
    counts: dict[str, Counter[str]] = {"images": Counter(), "annotations": Counter(), "dropped": Counter()}
    for example in selection.examples():
        try:
            _check(fmt, example)
            annotations = fmt.write(example, _picture(lake, example) if fmt.needs_pictures else b"")
        except (DroppedError, PictureError) as error:
            counts["dropped"][error.reason] += 1
        else:
            counts["images"][example.split] += 1
            counts["annotations"][example.split] += annotations
        if progress:
            progress(example.number + 1, selection.n_images)
    return counts


def _check(fmt: Format, example: Example) -> None:
    for stage in fmt.requires:
        status = example.outcomes.get(stage)
        if status in (None, "failed"):  # without this, not looked at would read as without objects
            raise DroppedError(f"{stage}_failed" if status else f"{stage}_pending")
    if any(one.mask_size != (example.height, example.width) for one in example.instances):
        raise DroppedError("mask_size_differs")


def _picture(lake: Lake, example: Example) -> bytes:
    return read_bytes(lake, example.image_id, example.tar, example.offset, example.length)


def _register(lake: Lake, spec: ManifestSpec, final: Path, lock: dict[str, Any]) -> None:
    inside = isinstance(lake.store, LocalStore) and final.is_relative_to(lake.uri)
    row = {
        "name": spec.name,
        "version": lock["version"],
        "format": spec.format,
        "path": (final.relative_to(lake.uri) if inside else final).as_posix(),
        "lock": json.dumps(lock, sort_keys=True),
        "n_images": sum(lock["counts"]["images"].values()),
        "n_annotations": sum(lock["counts"]["annotations"].values()),
        "built_at": datetime.now(UTC),
    }
    lake.append("manifests", [row], digest("manifest", spec.name, lock["version"]))
