"""The views readers see: complete units, one annotation per image and annotator, no tombstoned picture.

Physical tables are in the schema ``raw``; these views are what ``groundlake sql`` and manifests read.
"""

from __future__ import annotations

# A picture stored twice shows once: its canonical copy is the lowest by (shard planned at, shard, offset), never the
# one that was finished first. A unit shows when its last table (downloads, outcomes) was committed.
_INGEST = """
create view downloads as select * from raw.downloads;
create view shards as select * from raw.shards;
create view sources as
    select * from raw.sources qualify row_number() over (partition by name order by seen_at desc) = 1;
create view takedowns as select * from raw.takedowns;
create view taken_down as
    select value as image_id from raw.takedowns where kind = 'image_id'
    union select s.image_id from raw.sightings s join raw.takedowns t
        on t.kind = 'url_sha256' and t.value = left(sha256(s.url), 32)
    union select s.image_id from raw.sightings s join raw.takedowns t
        on t.kind = 'source_sha256' and t.value = s.source_sha256;
create view images as
    select i.*, s.source, s.planned_at
    from raw.images i join raw.shards s using (shard_id, attempt)
    where i.unit in (select unit from raw.downloads) and i.image_id not in (select image_id from taken_down)
    qualify row_number() over (
        partition by i.image_id order by s.planned_at, i.shard_id, i.attempt, i."offset") = 1;
create view sightings as
    select * from raw.sightings
    where unit in (select unit from raw.downloads) and image_id not in (select image_id from taken_down);
"""

# The visible outcome of (image, annotator): the latest that is not failed; a failed one only where there is no other.
_ANNOTATIONS = """
create view annotators as
    select * from raw.annotators qualify row_number() over (partition by annotator_id order by created_at) = 1;
create view current as
    select stage, source, annotator_id from raw.current
    qualify row_number() over (partition by stage, source order by promoted_at desc, annotator_id) = 1;
create view all_outcomes as
    select * from raw.outcomes where image_id not in (select image_id from taken_down)
    qualify row_number() over (
        partition by image_id, annotator_id order by (status = 'failed'), requested_at desc, unit desc) = 1;
create view outcomes as
    select o.*, i.source from all_outcomes o join images i using (image_id)
    join current c on c.stage = o.stage and c.source = i.source and c.annotator_id = o.annotator_id;
create view runs as select * from raw.runs;
create view manifests as select * from raw.manifests;
create view orders as select * from raw.orders;
create view rewrites as select * from raw.rewrites;
create view takedown_events as select * from raw.takedown_events;
"""

_ROWS = """
create view all_{table} as
    select t.* from raw.{table} t semi join all_outcomes o
        on o.image_id = t.image_id and o.annotator_id = t.annotator_id and o.unit = t.unit;
create view {table} as
    select t.* from raw.{table} t semi join outcomes o
        on o.image_id = t.image_id and o.annotator_id = t.annotator_id and o.unit = t.unit;
"""

_EMBEDDINGS = """
create view embeddings as
    select text_sha256, text, annotator_id, vector from raw.embeddings
    where unit in (select unit from raw.outcomes)
    qualify row_number() over (partition by text_sha256, annotator_id order by unit) = 1;
"""

VIEWS = _INGEST + _ANNOTATIONS + "".join(_ROWS.format(table=t) for t in ("tags", "instances", "captions")) + _EMBEDDINGS

# What a row of a view stands for, where it is not what a row of its table does.
ROWS = {
    "sources": "source, as its list was last read",
    "images": "picture, in its canonical copy",
    "current": "source and stage: the annotator promoted last",
    "taken_down": "picture that was taken down",
    "all_outcomes": "image and annotator",
    "outcomes": "image and stage, of the current annotator",
} | {
    view: row
    for table, row in (("tags", "image"), ("instances", "detected object"), ("captions", "image or instance"))
    for view, row in ((table, f"{row}, of the current annotator"), (f"all_{table}", f"{row}, of every annotator"))
}
