"""What became of listed urls: ok, duplicate and failed by class add up to all of them, always."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from etl.ingest.failures import TAKEN_DOWN
from etl.lake import Snapshot


@dataclass(frozen=True)
class IngestCounts:
    """Urls by what became of them.

    Attributes:
        n_urls: All of them: ``ok + duplicate + sum(failed.values())``.
        ok: Urls whose picture is in the lake, and was not before.
        duplicate: Urls whose picture is the same bytes as that of an earlier url.
        failed: Failed urls by error class.
    """

    n_urls: int = 0
    ok: int = 0
    duplicate: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_failed(self) -> int:
        """Failed urls of all classes."""
        return sum(self.failed.values())


# Of all urls with the same picture the first by (shard planned at, shard, attempt, url) is ok, the others are
# duplicates: whoever finished first plays no part, as in the view ``images``.
_ROWS = f"""
    with rows as (
        select d.url_sha256, d.shard_id, d.attempt, s.source, s.planned_at, d.image_id,
            case when d.status = 'failed' then d.error_class
                when d.image_id in (select image_id from taken_down) then '{TAKEN_DOWN}' end as failure
        from raw.downloads d join raw.shards s using (shard_id, attempt)),
    settled as (
        select *, row_number() over (
            partition by source, url_sha256
            order by (failure is not null), planned_at desc, attempt desc, shard_id desc) = 1 as is_last
        from rows),
    ranked as (
        select *, row_number() over (
            partition by image_id, failure is null, is_last order by planned_at, shard_id, attempt, url_sha256) as rank
        from settled)
    select case when failure is not null then failure when rank = 1 then 'ok' else 'duplicate' end as name, count(*)
    from ranked where """  # noqa: S608 - a constant of ours


def source_counts(snapshot: Snapshot, source: str) -> IngestCounts:
    """The settled urls of a source; of a url that was tried again the success counts, else the last try."""
    with snapshot.connect() as connection:
        rows = connection.execute(f"{_ROWS} is_last and source = ? group by 1", [source]).fetchall()
    return _counts(rows)


def shard_counts(snapshot: Snapshot, shards: Sequence[tuple[str, int]]) -> IngestCounts:
    """The settled urls of some (shard id, attempt)."""
    keys = [f"{shard_id}-{attempt}" for shard_id, attempt in shards]
    condition = "shard_id || '-' || attempt in (select unnest(?::varchar[])) group by 1"
    with snapshot.connect() as connection:
        rows = connection.execute(f"{_ROWS} {condition}", [keys]).fetchall()
    return _counts(rows)


def _counts(rows: Iterable[tuple[str, int]]) -> IngestCounts:
    found = Counter(dict(rows))
    total = found.total()
    ok, duplicate = found.pop("ok", 0), found.pop("duplicate", 0)
    return IngestCounts(total, ok, duplicate, dict(sorted(found.items())))
