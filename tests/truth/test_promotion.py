"""Truth that a person promotes: views, status and manifests show it, and a model that runs later does not undo that."""

from __future__ import annotations

import pytest

from etl.lake import Snapshot
from etl.lake.ledger import read_ledger
from etl.manifests.builder import build_manifest
from etl.settings import ManifestSpec, ModelEntry
from etl.stages.annotators import Annotator, register
from etl.stages.promotion import promote
from etl.truth.coco import read_coco
from etl.truth.landing import land_truth
from etl.truth.listing import list_truths


@pytest.fixture
def promoted(world):
    for one in world.landed.stages:
        promote(world.lake, one.stage, "hand", one.annotator_id, "by hand")
    return world


def test_views_and_status_show_it(promoted):
    (source,) = read_ledger(Snapshot.take(promoted.lake))

    assert [(one.stage, one.model, one.ok, one.pending) for one in source.stages] == [
        ("tag", "made", 4, 1),
        ("ground", "made", 3, 1),
        ("caption", "made", 2, 1),
        ("embed", None, 0, 10),
    ]
    (listed,) = list_truths(Snapshot.take(promoted.lake))
    assert listed.current_for == {key: ["hand"] for key in ("tag", "ground", "caption")}


def test_a_model_that_runs_for_the_first_time_afterwards_does_not_become_current(promoted):
    entry = ModelEntry.model_validate({"name": "later", "stage": "tag", "networks": {}})
    register(promoted.lake, Annotator("ab" * 16, entry, {}), "hand")
    register(promoted.lake, Annotator("ab" * 16, entry, {}), "other")

    rows = Snapshot.take(promoted.lake).sql("select source, annotator_id from current where stage = 'tag'").to_pylist()
    assert {row["source"]: row["annotator_id"] for row in rows} == {
        "hand": promoted.landed.stages[0].annotator_id,
        "other": "ab" * 16,
    }


def test_a_manifest_of_it_lands_as_the_very_same_objects(promoted, tmp_path):
    spec = {"name": "truth", "sql": "select image_id from images", "format": "coco"}
    spec["options"] = {"image_caption": "generated"}
    built = build_manifest(promoted.lake, ManifestSpec.model_validate(spec), tmp_path / "out")
    folder = built.folder / "annotations"
    read = read_coco(folder / "instances_train.json", folder / "captions_train.json")
    again = land_truth(promoted.lake, read, name="again", source="hand", request="again")

    assert {one["kind"] for one in built.lock["annotators"]} == {"dataset"}
    ids = "select list(distinct instance_id order by instance_id) as ids from all_instances where annotator_id = "
    grounds = [next(s.annotator_id for s in one.stages if s.stage == "ground") for one in (promoted.landed, again)]
    one, other = (Snapshot.take(promoted.lake).sql(f"{ids} '{who}'").to_pylist()[0]["ids"] for who in grounds)
    assert one == other
    assert len(one) == 4
