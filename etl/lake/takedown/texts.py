"""Which embedded texts go with pictures: a caption describes its picture, so its vector goes where no other has it."""

from __future__ import annotations

from collections.abc import Iterable

from etl.lake.ids import digest_bytes
from etl.lake.takedown.resolve import Found
from etl.lake.takedown.scan import Scan, on_disk
from etl.lake.texts import caption_for_embedding

_THEIRS = """
    select distinct image_id, label, null as caption from disk_instances where image_id in (select value from ids)
    union select c.image_id, i.label, c.caption from disk_captions c left join disk_instances i
        on i.image_id = c.image_id and i.instance_id = c.instance_id
    where c.image_id in (select value from ids)"""
_LATE = "select distinct text from disk_embeddings where text_sha256 in (select value from known)"
_LABELS = """
    select distinct label as text from disk_instances
    where label in (select value from texts) and image_id not in (select value from ids)"""
_CAPTIONS = """
    with same as (select image_id, instance_id, caption from disk_captions
        where caption in (select value from captions) and image_id not in (select value from ids))
    select distinct s.caption, i.label from same s left join disk_instances i
        on i.image_id = s.image_id and i.instance_id = s.instance_id"""


def unshared_texts(scan: Scan, found: Found, known: dict[str, set[str]]) -> dict[str, set[str]]:
    """Texts of the pictures that no other picture has, in any version that can still be read.

    Args:
        scan: Reads the lake.
        found: The pictures.
        known: Digests of texts that earlier passes found, with their takedowns: a late order may commit vectors of
            captions that are gone by then.

    Returns:
        Digest of the text -> the takedowns whose pictures have it.

    Raises:
        RetryableError: A table could not be read.
    """
    for table in ("instances", "captions", "embeddings"):
        scan.view(f"disk_{table}", table, on_disk(scan.lake, table))
    texts = _theirs(scan, found)
    scan.give("known", {"value": sorted(known)})
    for row in scan.rows(_LATE):
        texts.setdefault(row["text"], set()).update(known[digest_bytes(row["text"].encode())])
    shared = _shared(scan, texts)
    return {digest_bytes(text.encode()): owners for text, owners in texts.items() if text not in shared}


def _theirs(scan: Scan, found: Found) -> dict[str, set[str]]:
    """Every text that the embed stage may have made a vector of, with the takedowns of its pictures."""
    texts: dict[str, set[str]] = {}
    scan.give("ids", {"value": sorted(found.images)})
    for row in scan.rows(_THEIRS):
        for text in _texts(row["label"], row["caption"]):
            texts.setdefault(text, set()).update(found.owners_of(row["image_id"]))
    return texts


def _shared(scan: Scan, texts: Iterable[str]) -> set[str]:
    """Those of ``texts`` that another picture has too."""
    if not texts:
        return set()
    scan.give("texts", {"value": sorted(texts)})
    scan.give("captions", {"value": sorted({caption for text in texts for caption in _possible_captions(text)})})
    shared = {row["text"] for row in scan.rows(_LABELS)}
    for row in scan.rows(_CAPTIONS):
        shared.update(_texts(None, row["caption"]), _texts(row["label"], row["caption"]) if row["label"] else ())
    return shared


def _texts(label: str | None, caption: str | None) -> set[str]:
    """What is embedded of one instance or image: label, caption, and the caption led by its label.

    >>> sorted(_texts("dog", "an animal"))
    ['an animal', 'dog', 'dog. an animal']
    """
    texts = {label or "", caption or ""}
    if label and caption:
        texts.add(caption_for_embedding(label, caption))
    return texts - {""}


def _possible_captions(text: str) -> set[str]:
    """The captions that may have become this text: itself, and whatever follows a label.

    >>> sorted(_possible_captions("dog. an animal"))
    ['an animal', 'dog. an animal']
    """
    pieces = text.split(". ")
    return {". ".join(pieces[n:]) for n in range(len(pieces))}
