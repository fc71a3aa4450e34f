"""ingest, annotate and manifest one after another through ``dag.test()``, with the real commands on a real lake.

``dag.test()`` starts no downstream DAG: that an asset does is shown by the end-to-end test, which runs a real Airflow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from etl.demo.pictures import make_source
from etl.demo.ports import HOST, free_port
from etl.demo.server import serve
from etl.lake import Lake, Snapshot
from etl.settings import Settings
from etl.settings.catalog import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Of the sample source: twelve pictures, one copy of the first of them, one cut short, two that are gone.
URLS = r"/(pictures/000\d|pictures/001[01]|mirror/0000|broken/cut-0|gone/[01]\.)"
INGEST, ANNOTATE, MANIFEST, INGEST_AGAIN, ANNOTATE_AGAIN, DEAD = range(6)
JOBS = [
    {"dag": "ingest", "conf": {"sources": ["sample"]}},
    {"dag": "annotate", "conf": {"sources": ["sample"]}},
    {"dag": "manifest"},
    {"dag": "ingest", "conf": {"sources": ["sample"]}},
    {"dag": "annotate"},
    {"dag": "ingest", "conf": {"sources": ["dead", "unreadable"]}},
]


@dataclass(frozen=True)
class World:
    """The lake, and what was seen of the runs."""

    lake: Lake
    runs: list[dict[str, Any]]
    output: str

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with Snapshot.take(self.lake).connect() as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def world(airflow: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("chain")
    lake = Lake.create(str(home / "lake"), Settings(scratch=home / "scratch"))
    with ExitStack() as stack:
        port = free_port()  # free a moment ago; made first, since the port is part of the urls
        sample = make_source(home / "site", f"http://{HOST}:{port}")
        base_url = stack.enter_context(serve(home / "site", port))
        write_catalog(home / "catalog", home, sample.list_path, base_url)
        seen = airflow(
            "run_dags.py",
            json.dumps(JOBS),
            GROUNDLAKE_LAKE=lake.uri,
            GROUNDLAKE_CATALOG=str(home / "catalog"),
            GROUNDLAKE_SCRATCH=str(home / "scratch"),
            GROUNDLAKE_DEVICE="cpu",
        )
        yield World(lake, seen.results, seen.output)


def write_catalog(folder: Path, home: Path, listed: Path, base_url: str) -> None:
    rows = pq.read_table(listed)
    wanted = rows.filter(pc.match_substring_regex(rows["url"], URLS))
    pq.write_table(wanted, home / "sample.parquet")
    pq.write_table(pa.table({"url": [f"{base_url}/gone/{n}.jpg" for n in range(3)]}), home / "dead.parquet")
    (home / "unreadable.parquet").write_bytes(b"not parquet")
    entries = {
        f"sources/{name}": {
            "uri": str(home / f"{name}.parquet"),
            "caption_column": "caption" if name == "sample" else None,
            "download": {"allow_private_addresses": True, "threads": 4, "retries": 0},
        }
        for name in ("sample", "dead", "unreadable")
    }
    entries["manifests/all-images"] = {"format": "jsonl", "sql": "select image_id from images"}
    for name, content in entries.items():
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content))


def test_first_round_is_green_from_urls_to_a_manifest(world: World) -> None:
    assert [run["state"] for run in world.runs[:3]] == ["success"] * 3, world.output[-6000:]


def test_every_served_url_is_settled(world: World) -> None:
    found = world.sql(
        "select d.status, d.error_class, count(*) from downloads d join shards using (shard_id, attempt) "
        "where source = 'sample' group by all order by all"
    )
    assert found == [("failed", "decode", 1), ("failed", "http_404", 2), ("ok", None, 13)]
    assert world.sql("select count(*), count(distinct image_id) from images") == [(12, 12)]


def test_every_picture_has_one_outcome_per_stage(world: World) -> None:
    assert world.sql(
        "select stage, count(distinct image_id), count(*) from raw.outcomes group by all order by all"
    ) == [(stage, 12, 12) for stage in sorted(STAGES)]
    assert world.sql("select count(*) from outcomes where status = 'failed'") == [(0,)]


def test_each_round_announces_what_the_next_one_needs(world: World) -> None:
    uris = [[event["uri"] for event in run["events"]] for run in world.runs[:3]]
    assert uris == [[f"groundlake://lake/{name}"] for name in ("images", "annotations", "manifests")]
    images, annotations, manifests = (run["events"][0]["extra"] for run in world.runs[:3])
    assert (images["sources"], images["shards"], images["images"]) == (["sample"], 1, 12)
    assert sum(annotations["outcomes"].values()) == 12 * len(STAGES)
    assert manifests == {"manifests": dict(world.sql("select name, version from manifests"))}


def test_second_round_finds_nothing_to_do_and_says_so(world: World) -> None:
    for number in (INGEST_AGAIN, ANNOTATE_AGAIN):
        run = world.runs[number]
        assert (run["state"], run["states"]["settle"], run["events"]) == ("success", "skipped", [])
    assert "nothing to do: every url of these sources is settled already" in world.output
    assert "nothing to do: every image has fresh results of these stages" in world.output


def test_dead_source_and_unreadable_list_turn_the_run_red_with_the_reason(world: World) -> None:
    run = world.runs[DEAD]
    assert run["states"]["shard.download[0]"] == "success"  # it did its work: three urls failed
    assert run["states"]["verdict"] == run["state"] == "failed"
    assert run["events"] == []
    assert "source dead: 3 of 3 failed (100%, the limit is 50%): http_404 3" in world.output
    assert "source unreadable: " in world.output
