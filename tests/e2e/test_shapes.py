"""The networks of the pack through the whole pipeline, against the scenes they were shown.

Real img2dataset from a loopback server, tars, the four stages, Delta tables and a COCO manifest; then the manifest is
scored against the scenes as they were drawn (``tests/scene_scores.py``), which no part of the pipeline has seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco
from scene_scores import Seen, Thing, scene_scores, too_low

from etl.demo.server import serve
from etl.evaluate.classes import ClassMap
from etl.evaluate.evaluation import Evaluation, evaluate
from etl.ingest.planning import make_plan
from etl.ingest.shard import ingest_shard
from etl.lake import Lake, Snapshot
from etl.manifests.builder import build_manifest
from etl.settings import Catalog, ManifestSpec, Settings, Source, load_catalog
from etl.settings.catalog import STAGES, Download
from etl.shapes.files.site import write_scenes
from etl.shapes.files.truth import write_truth
from etl.shapes.world.scene import Scene
from etl.shapes.world.words import COLOUR_NAMES, SHAPES, TEXTURES
from etl.stages.planning import plan_request
from etl.stages.runner import run_stage
from etl.truth.coco import read_coco
from etl.truth.landing import land_truth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SCENES = range(40)  # of split test; their formats take turns


@dataclass(frozen=True)
class World:
    """A lake in which the scenes are annotated, and what a trainer would get of them."""

    lake: Lake
    scenes: dict[str, Scene]
    manifest: Path
    evaluation: Evaluation


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("shapes")
    site = root / "site"
    site.mkdir()
    with serve(site) as base_url:
        written = write_scenes(site, base_url, SCENES)
        scenes = {url: scene for url, scene, _ in written}
        lake = Lake.create(str(root / "lake"), Settings(scratch=root / "scratch"))
        source = _source(root, list(scenes))
        ingest_shard(lake, make_plan(lake, source, "ingest").refs[0])
    catalog = load_catalog()
    request = plan_request(lake, Catalog({source.name: source}, catalog.models), "annotate")
    for stage in STAGES:
        run_stage(lake, catalog, stage, request.key, 0, device="cpu")
    spec = ManifestSpec(name="shapes", format="coco", sql="select image_id from images")
    manifest = build_manifest(lake, spec, root).folder
    instances, captions = write_truth(root / "truth", list(scenes.items()))
    land_truth(lake, read_coco(instances, captions), name="shapes-truth", source=source.name, request="truth")
    groups = {"shapes": list(SHAPES), "colours": list(COLOUR_NAMES), "textures": list(TEXTURES[1:])}
    evaluation = evaluate(lake, truth="shapes-truth", source=source.name, classes=ClassMap(groups=groups))
    return World(lake, scenes, manifest, evaluation)


def _source(root: Path, urls: list[str]) -> Source:
    listed = root / "urls.parquet"
    pq.write_table(pa.table({"url": urls}), listed)
    return Source(name="shapes", uri=str(listed), download=Download(allow_private_addresses=True))


@pytest.fixture(scope="module")
def scores(world: World) -> dict[str, float]:
    """Scores of the manifest against the scenes; tags, which COCO has no place for, are those of the lake."""
    instances = json.loads((world.manifest / "annotations/instances_train.json").read_text())
    captions = json.loads((world.manifest / "annotations/captions_train.json").read_text())
    with Snapshot.take(world.lake).connect() as connection:
        tags = dict(connection.execute("select image_id, list_transform(tags, x -> x.tag) from tags").fetchall())
        labelled = connection.execute("select instance_id from captions where flag = 'label'").fetchall()
    pairs = []
    for image in instances["images"]:
        own = [_thing(one, instances, labelled) for one in instances["annotations"] if one["image_id"] == image["id"]]
        told = [one["caption"] for one in captions["annotations"] if one["image_id"] == image["id"]]
        seen = Seen(frozenset(tags.get(image["groundlake_image_id"], ())), tuple(own), told[0] if told else "")
        pairs.append((world.scenes[image["coco_url"]], seen))
    return scene_scores(pairs)


def _thing(one: dict[str, Any], manifest: dict[str, Any], labelled: list[tuple[str]]) -> Thing:
    names = {category["id"]: category["name"] for category in manifest["categories"]}
    x, y, width, height = one["bbox"]
    mask = coco.decode({**one["segmentation"], "counts": one["segmentation"]["counts"].encode()}).astype(np.bool_)
    caption = None if (one["groundlake_instance_id"],) in labelled else one["caption"]
    return Thing(names[one["category_id"]], one["score"], (x, y, x + width, y + height), mask, caption)


def test_every_scene_is_in_the_manifest_and_ok_or_empty_at_every_stage(world: World) -> None:
    listed = json.loads((world.manifest / "annotations/instances_train.json").read_text())["images"]
    assert {image["coco_url"] for image in listed} == set(world.scenes)
    with Snapshot.take(world.lake).connect() as connection:
        counts = connection.execute(
            "select stage, count(*), count(*) filter (status = 'failed') from outcomes group by stage"
        ).fetchall()
    assert sorted(counts) == sorted((stage, len(world.scenes), 0) for stage in STAGES)


def test_the_manifest_agrees_with_the_scenes(scores: dict[str, float]) -> None:
    assert not too_low(scores), scores


def test_groundlake_eval_finds_the_scores_that_the_scenes_give(world: World, scores: dict[str, float]) -> None:
    found = world.evaluation.to_json()
    told = {
        "tag_f1": found["tags"]["f1"],
        **{group: found["tags"]["groups"][group]["f1"] for group in ("shapes", "colours", "textures")},
        "ap": found["boxes"]["ap"],
        "ap50": found["boxes"]["ap50"],
        "mask_iou": found["masks"]["mean_iou"],
        "caption_exact": found["captions"]["instances"]["exact"],
        "sentence_f1": found["captions"]["images"]["word_f1"],
    }
    assert told == {name: pytest.approx(scores[name], abs=0.005) for name in told}  # the manifest rounds its boxes
