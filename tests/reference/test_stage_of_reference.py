"""The stage ground over pictures of a lake, once with upstream's packages, once with ours, from the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_stages
import numpy as np
import pytest
from handmade import Handmade, Picture, Thing
from pycocotools import mask as coco

from etl.lake import Lake, Snapshot
from etl.reference.parity import converted
from etl.reference.small import write_random
from etl.settings import Catalog, ModelEntry
from etl.stages import registry
from etl.stages.planning import plan_request
from etl.stages.runner import run_stage

pytestmark = pytest.mark.reference
ROLES = {"detector": "groundingdino", "segmenter": "sam"}
# Whatever random networks think of pictures, some boxes come out.
OPTIONS = {"box_threshold": 0.0, "text_threshold": 0.0, "max_boxes": 4}
Rows = list[dict[str, Any]]


@pytest.fixture
def pictures(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Handmade:
    """Two tiny pictures, and a stage tag that calls both of them a star."""
    monkeypatch.setitem(registry._STAGES, "tag", fake_stages.INSTALLED["tag"])
    hand = Handmade(lake)
    things = (Thing("dog", (5, 5, 30, 30)),)
    hand.add(Picture(size=(60, 45), things=things, format="PNG"), Picture(size=(64, 40), seed=1, format="PNG"))
    return hand


def model(name: str, folders: dict[str, Path], **more: Any) -> ModelEntry:
    networks = {role: {"family": family, "weights": f"file:{folders[family]}"} for role, family in ROLES.items()}
    return ModelEntry(name=name, stage="ground", networks=networks, options=OPTIONS, **more)


def instances(lake: Lake, entry: ModelEntry) -> Rows:
    """What the stage ground makes with an entry, picture by picture, the best first."""
    tags = fake_stages.entry("tag", word="star")
    catalog = Catalog(models={one.name: one for one in (tags, entry)})
    models = {"tag": tags.name, "ground": entry.name}
    key = plan_request(lake, catalog, entry.name, stages=("tag", "ground"), models=models).key
    for stage in models:
        run_stage(lake, catalog, stage, key, 0, device="cpu")
    query = "select i.* from raw.instances i join raw.annotators a using (annotator_id) where a.model = ?"
    return rows(lake, f"{query} order by image_id, score desc, x1", entry.name)


def rows(lake: Lake, query: str, *parameters: Any) -> Rows:
    with Snapshot.take(lake).connect() as connection:
        found: Rows = connection.execute(query, list(parameters)).to_arrow_table().to_pylist()
    return found


def mask(row: dict[str, Any]) -> Any:
    return coco.decode({"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"].encode()})


def test_both_engines_find_the_same_things_at_the_same_places(lake: Lake, pictures: Handmade, tmp_path: Path):
    theirs, ours = {}, {}
    for family in ROLES.values():
        theirs[family] = tmp_path / family
        theirs[family].mkdir()
        write_random(family, theirs[family])
        ours[family] = converted(family, theirs[family], tmp_path / f"{family}-converted")
    upstream = instances(lake, model("theirs", theirs, engine="reference"))
    own = instances(lake, model("ours", ours))
    assert upstream
    assert {row["image_id"] for row in upstream} == set(pictures.ids)
    assert [(row["image_id"], row["label"], row["phrase"]) for row in upstream] == [
        (row["image_id"], row["label"], row["phrase"]) for row in own
    ]
    for name, far in {"x1": 0.01, "y1": 0.01, "x2": 0.01, "y2": 0.01, "score": 1e-4, "predicted_iou": 2e-4}.items():
        apart = [abs(one[name] - other[name]) for one, other in zip(upstream, own, strict=True)]
        print(f"{name}: largest difference {max(apart):.1e}")
        assert max(apart) <= far
    pixels = sum(int(np.sum(mask(one) != mask(other))) for one, other in zip(upstream, own, strict=True))
    print(f"mask pixels that differ: {pixels} of {sum(mask(one).size for one in upstream)}")
    assert pixels <= 2
    records = rows(lake, "select model, record from raw.annotators where stage = 'ground'")
    engines = {row["model"]: json.loads(row["record"]).get("engine") for row in records}
    assert engines == {"theirs": "reference", "ours": None}
