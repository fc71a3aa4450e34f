"""COCO's instances and captions files, read without trusting them.

Whatever is wrong with an annotation is its image's fault and no other's; only a file that is no COCO at all is refused.
The whole file is in memory while it is read. Masks are looked at when rows are made of them, see ``etl.truth.masks``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etl.errors import DataError
from etl.truth import values
from etl.truth.model import Fault, Truth, TruthImage, TruthInstance
from etl.truth.values import ValueProblem, shown

_REMEDY = 'expected COCO: {"images": […], "annotations": […], "categories": […]}'


def read_coco(instances: Path, captions: Path | None = None) -> Truth:
    """Read COCO's instances file, and its captions file if there is one.

    An image is known by its ``groundlake_image_id`` where it has one, else by its ``coco_url`` (or a ``file_name`` that
    is a url). Its tags are its ``tags`` where it has them, else the categories of its annotations, crowds among them.

    Args:
        instances: Images, categories and annotations: ``bbox`` (x, y, width, height), ``segmentation`` (run lengths,
            compressed or not, or polygons; may be missing), ``iscrowd`` and ``caption`` (both may be missing).
        captions: Annotations of the same image ids with a ``caption``.

    Raises:
        DataError: A file cannot be read, is no COCO, or says nothing of any image.
    """
    content, sha256 = _load(instances, "images", "annotations")
    reader = _Reader(instances, content)
    reader.read_annotations(_list(instances, content, "annotations"))
    if captions is not None:
        content, other = _load(captions, "annotations")
        sha256 = hashlib.sha256(f"{sha256} {other}".encode()).hexdigest()
        reader.read_captions(_list(captions, content, "annotations"))
    return reader.truth(sha256)


@dataclass
class _Draft:
    """An image while it is read; its first fault is the one that is told."""

    number: int
    name: str
    url: str | None = None
    image_id: str | None = None
    width: int = 0
    height: int = 0
    tags: tuple[str, ...] | None = None
    labels: set[str] = field(default_factory=set)
    instances: list[TruthInstance] = field(default_factory=list)
    caption: str | None = None
    fault: Fault | None = None

    def fail(self, reason: str, words: str) -> None:
        self.fault = self.fault or Fault(reason, words)

    def finished(self) -> TruthImage:
        return TruthImage(
            number=self.number,
            name=self.name,
            url=self.url,
            image_id=self.image_id,
            width=self.width,
            height=self.height,
            tags=tuple(sorted(self.labels)) if self.tags is None else self.tags,
            instances=tuple(self.instances),
            caption=self.caption,
            fault=self.fault,
        )


class _Reader:
    """Puts annotations to their images.

    Args:
        path: The file, for messages.
        content: Its content.
    """

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self._path = path
        if "categories" not in content and content["annotations"]:
            raise DataError(
                f"{path} has annotations, but no categories",
                remedy="a captions file goes to --captions, beside the instances file of the same images",
            )
        self._labels, self._ambiguous = _categories(_list(path, content, "categories"))
        self._drafts = [_image(number, one) for number, one in enumerate(_list(path, content, "images"))]
        self._by_id: dict[object, _Draft] = {}
        for draft, entry in zip(self._drafts, content["images"], strict=True):
            self._place(draft, entry)
        self._of_annotation: dict[object, _Draft] = {}
        self._crowds = self._strays = self._further = 0

    def read_annotations(self, annotations: list[Any]) -> None:
        """Add every annotation to its image; the list is emptied, so that memory does not hold everything twice."""
        for name, one, draft in self._owned(annotations):
            try:
                self._check_id(name, one.get("id"), draft)
                label = self._label(one.get("category_id"))
                draft.labels.add(label)
                if _is_crowd(one.get("iscrowd")):
                    self._crowds += 1
                elif draft.fault is None:
                    draft.instances.append(_instance(name, label, one, draft))
            except ValueProblem as problem:
                draft.fail(problem.reason, f"{name}: {problem.words}")

    def read_captions(self, annotations: list[Any]) -> None:
        """Give every image its first caption."""
        for name, one, draft in self._owned(annotations):
            try:
                caption = values.caption(one.get("caption") or "")  # null too is none
            except ValueProblem as problem:
                draft.fail(problem.reason, f"caption {name}: {problem.words}")
                continue
            self._further += draft.caption is not None
            draft.caption = draft.caption or caption

    def truth(self, sha256: str) -> Truth:
        """Everything that was read.

        Raises:
            DataError: It says nothing of any image.
        """
        images = [draft.finished() for draft in self._drafts]
        speaks = {
            "tag": bool(self._labels) or any(draft.tags is not None for draft in self._drafts),
            "ground": bool(self._labels),
            "caption": any(one.caption or any(i.caption for i in one.instances) for one in images),
        }
        stages = tuple(stage for stage, told in speaks.items() if told)
        if not images or not stages:
            what = "no category, tag or caption" if images else "no image"
            raise DataError(f"{self._path} holds {what}: there is nothing to land", remedy=_REMEDY)
        return Truth(sha256, images, stages, self._crowds, self._strays, self._further)

    def _place(self, draft: _Draft, entry: Any) -> None:
        """Make an image findable by its id; of one that has none, or shares it, the fault is noted."""
        key = entry.get("id") if isinstance(entry, dict) else None
        if not values.is_key(key):
            draft.fail("bad_image", f"{draft.name}: id {shown(key)}, expected a whole number or a text")
        elif (other := self._by_id.setdefault(key, draft)) is not draft:
            for one in (other, draft):
                one.fail("duplicate_id", f"images[{other.number}] and images[{draft.number}] have the same id")

    def _owned(self, annotations: list[Any]) -> Iterator[tuple[str, Mapping[str, Any], _Draft]]:
        """Every annotation that belongs to an image, with what messages call it, and the image."""
        for number, one in enumerate(annotations):
            annotations[number] = None
            key = one.get("image_id") if isinstance(one, dict) else None
            draft = self._by_id.get(key) if values.is_key(key) else None
            if draft is None:
                self._strays += 1
                continue
            yield _name("annotation", one.get("id"), number), one, draft

    def _check_id(self, name: str, key: object, draft: _Draft) -> None:
        if key is None:
            return
        if not values.is_key(key):
            raise ValueProblem("bad_annotation", f"id {shown(key)}, expected a whole number or a text")
        other = self._of_annotation.get(key)
        if other is not None:
            other.fail("duplicate_id", f"{name}: its id is there twice")
            raise ValueProblem("duplicate_id", "its id is there twice")
        self._of_annotation[key] = draft

    def _label(self, key: object) -> str:
        if not values.is_key(key) or key not in self._labels:
            raise ValueProblem("unknown_category", f"category_id {shown(key)} is no category of the file")
        if key in self._ambiguous:
            raise ValueProblem("unknown_category", f"category_id {shown(key)} is the id of several categories")
        label = self._labels[key]
        if label is None:
            raise ValueProblem("unknown_category", f"category {shown(key)} has no name")
        return label


def _image(number: int, entry: Any) -> _Draft:
    if not isinstance(entry, dict):
        return _Draft(number, f"images[{number}]")
    draft = _Draft(number, _name("image", entry.get("id"), number))
    url, file_name = values.text(entry.get("coco_url")), values.text(entry.get("file_name")) or ""
    draft.url = url or (file_name if "://" in file_name else None)
    given = entry.get("groundlake_image_id")
    draft.image_id = values.image_id(given)
    if given is not None and draft.image_id is None:
        draft.fail("bad_image", f"{draft.name}: groundlake_image_id {shown(given)}, expected 32 hex digits")
    width, height = (entry.get(side) for side in ("width", "height"))
    draft.width, draft.height = values.side(width) or 0, values.side(height) or 0
    if not (draft.width and draft.height):
        draft.fail("bad_image", f"{draft.name}: width {shown(width)} and height {shown(height)}, expected pixels")
    try:
        draft.tags = values.tags(entry.get("tags"))
    except ValueProblem as problem:
        draft.fail(problem.reason, f"{draft.name}: {problem.words}")
    return draft


def _instance(name: str, label: str, annotation: Mapping[str, Any], draft: _Draft) -> TruthInstance:
    return TruthInstance(
        name=name,
        label=label,
        box=values.box(annotation.get("bbox"), draft.width, draft.height),
        mask=values.mask(annotation.get("segmentation")),
        caption=values.caption(annotation.get("caption")),
    )


def _categories(entries: list[Any]) -> tuple[dict[Any, str | None], set[Any]]:
    """The name of every category, None for one that has none; and the ids that several have."""
    labels: dict[Any, str | None] = {}
    ambiguous = set()
    for entry in entries:
        key = entry.get("id") if isinstance(entry, dict) else None
        if not values.is_key(key):
            continue  # no annotation can name it
        if key in labels:
            ambiguous.add(key)
        labels[key] = values.text(entry.get("name"))
    return labels, ambiguous


def _is_crowd(value: object) -> bool:
    if value not in (None, 0, 1):
        raise ValueProblem("bad_annotation", f"iscrowd {shown(value)}, expected 0 or 1")
    return bool(value)


def _name(kind: str, key: object, number: int) -> str:
    """What messages call an entry: by its id where it has one, else by its place."""
    return f"{kind} {shown(key)}" if values.is_key(key) else f"{kind}s[{number}]"


def _load(path: Path, *wanted: str) -> tuple[dict[str, Any], str]:
    """The content of a file, and the digest of its bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", remedy="name a file that exists") from error
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}", remedy=_REMEDY) from error
    missing = [key for key in wanted if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path} has no {' and no '.join(missing)}", remedy=_REMEDY)
    return content, sha256


def _list(path: Path, content: Mapping[str, Any], key: str) -> list[Any]:
    found = content.get(key, [])
    if not isinstance(found, list):
        raise DataError(f"{path}: {key} is {shown(found)}, expected a list", remedy=_REMEDY)
    return found
