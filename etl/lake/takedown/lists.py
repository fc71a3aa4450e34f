"""The url lists of shards: a url stays where it was listed, what the list says about its picture goes."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from etl.lake.ids import url_digest
from etl.lake.lake import Lake
from etl.lake.takedown.resolve import Found
from etl.lake.takedown.scan import Scan
from etl.storage import NotFoundError

# Lists of shards that are not settled yet may hold any url.
_LISTS = """
    select distinct s.urls from all_shards s where s.shard_id in (select value from listing) or not exists
        (select 1 from disk_downloads d where d.shard_id = s.shard_id and d.attempt = s.attempt)"""


def blank_captions(scan: Scan, found: Found) -> int:
    """Empty the captions of the pictures' urls in all lists; returns how many lists were changed.

    Raises:
        StorageError: The store failed.
    """
    if not found.urls:
        return 0
    scan.give("listing", {"value": sorted(found.listing)})
    return sum(_blank(scan.lake, row["urls"], found.urls) for row in scan.rows(_LISTS))


def _blank(lake: Lake, key: str, urls: set[str]) -> bool:
    try:
        rows = pq.read_table(io.BytesIO(lake.store.read(key)))
    except NotFoundError:
        return False
    pairs = zip(rows["url"].to_pylist(), rows["caption"].to_pylist(), strict=True)
    captions = [None if caption is not None and url_digest(url) in urls else caption for url, caption in pairs]
    if captions == rows["caption"].to_pylist():
        return False
    place = rows.schema.get_field_index("caption")
    column = pa.array(captions, rows.schema.field("caption").type)
    buffer = io.BytesIO()
    pq.write_table(rows.set_column(place, rows.schema.field("caption"), column), buffer, compression="zstd")
    lake.store.put(key, buffer.getvalue())  # whole or not at all; readers use it for urls and captions only
    return True
