"""From what was asked for to the pictures it means: every image ever seen at a url, every copy of the same bytes.

It looks into every file that still lies in the store: replaced ones, and those of orders that are not committed yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from etl.lake.ids import LENGTH, url_digest
from etl.lake.parts import data_paths
from etl.lake.takedown.request import Tombstone
from etl.lake.takedown.scan import Scan, on_disk

# Of two pictures "the same bytes" is said by a digest only, never by what an importer may put where it knows none.
_SAME = f"length(s.source_sha256) >= {LENGTH}"
_IMAGES = f"""
    select t.owner, s.image_id as value from disk_sightings s
        join stones t on t.kind = 'source_sha256' and t.value = s.source_sha256 and {_SAME}
    union select t.owner, d.image_id from disk_downloads d
        join stones t on t.kind = 'url_sha256' and t.value = d.url_sha256 and d.image_id is not null
    union select t.owner, s.image_id from disk_sightings s
        join stones t on t.kind = 'url_sha256' and t.value = left(sha256(s.url), {LENGTH})"""  # noqa: S608
_BYTES = f"""
    select distinct t.owner, s.source_sha256 as value from disk_sightings s
        join stones t on t.kind = 'image_id' and t.value = s.image_id and {_SAME}"""  # noqa: S608
_COPIES = """
    select distinct image_id, shard_id, attempt, tar, "offset", length from disk_images
    where image_id in (select value from ids)"""
_PLACES = """
    select distinct image_id, shard_id, url, source_sha256 from disk_sightings
    where image_id in (select value from ids)"""
_REFUSED = """
    select distinct shard_id, attempt, url_sha256 as url from disk_downloads
    where url_sha256 in (select value from urls)"""


@dataclass(frozen=True, order=True)
class Copy:
    """Where a picture's bytes lie: a span of a tar."""

    tar: str
    offset: int
    length: int
    image_id: str
    shard_id: str


@dataclass
class Found:
    """What the lake holds of some takedowns.

    Attributes:
        owners: Per tombstone the takedowns it belongs to.
        copies: Every stored copy of the pictures.
        seen: Images with a row in ``sightings``.
        brought: Digests of urls and bytes that led to an image, or are those of one.
        shards: Per shard that a row of the pictures may name, or that lists their urls, the takedowns concerned.
        urls: Digests of the urls where they were seen, and of those asked for.
        listing: Shards that list such a url.
    """

    owners: dict[Tombstone, set[str]] = field(default_factory=dict)
    copies: set[Copy] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    brought: set[str] = field(default_factory=set)
    shards: dict[str, set[str]] = field(default_factory=dict)
    urls: set[str] = field(default_factory=set)
    listing: set[str] = field(default_factory=set)

    def values(self, kind: str) -> set[str]:
        """The ids or digests of a kind."""
        return {stone.value for stone in self.owners if stone.kind == kind}

    @property
    def images(self) -> set[str]:
        """The pictures' ids."""
        return self.values("image_id")

    def owners_of(self, image_id: str) -> set[str]:
        """The takedowns that name an image."""
        return self.owners.get(Tombstone("image_id", image_id), set())


def resolve(scan: Scan, stones: Mapping[str, Iterable[Tombstone]]) -> Found:
    """Everything that the tombstones of some takedowns mean.

    An image brings the bytes it was made of, and those bring whatever else was made of them, such as the same picture
    in another size.

    Args:
        scan: Reads the lake.
        stones: Tombstones by takedown.

    Raises:
        RetryableError: A table could not be read.
    """
    for table in ("sightings", "downloads", "images"):
        scan.view(f"disk_{table}", table, on_disk(scan.lake, table))
    scan.view("all_shards", "shards", data_paths(scan.lake.table("shards")))
    found = Found()
    new = [(owner, stone) for owner, given in stones.items() for stone in given]
    while new:
        for owner, stone in new:
            found.owners.setdefault(stone, set()).add(owner)
        scan.give("stones", _columns(new))  # what was known before has brought all it brings
        pairs = [(row["owner"], Tombstone("image_id", row["value"])) for row in scan.rows(_IMAGES)]
        pairs += [(row["owner"], Tombstone("source_sha256", row["value"])) for row in scan.rows(_BYTES)]
        new = [(owner, stone) for owner, stone in pairs if owner not in found.owners.get(stone, ())]
    _places(scan, found)
    return found


def _places(scan: Scan, found: Found) -> None:
    scan.give("ids", {"value": sorted(found.images)})
    for row in scan.rows(_COPIES):
        found.copies.add(Copy(row["tar"], row["offset"], row["length"], row["image_id"], row["shard_id"]))
        found.shards.setdefault(row["shard_id"], set()).update(found.owners_of(row["image_id"]))
    found.urls = found.values("url_sha256")
    for row in scan.rows(_PLACES):
        url = url_digest(row["url"])
        found.urls.add(url)
        found.seen.add(row["image_id"])
        found.brought.update((url, row["source_sha256"]))
        found.listing.add(row["shard_id"])
        found.shards.setdefault(row["shard_id"], set()).update(found.owners_of(row["image_id"]))
    scan.give("urls", {"value": sorted(found.urls)})
    found.listing.update(row["shard_id"] for row in scan.rows(_REFUSED))


def _columns(pairs: Iterable[tuple[str, Tombstone]]) -> dict[str, list[str]]:
    rows = [(owner, stone.kind, stone.value) for owner, stone in pairs]
    return {name: [row[n] for row in rows] for n, name in enumerate(("owner", "kind", "value"))}
