from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etl.errors import ConfigurationError, UnknownNameError
from etl.lake import Lake
from etl.orchestration.place import Place
from etl.orchestration.planning import (
    models_of,
    plan_annotation_groups,
    plan_ingest_shards,
    plan_manifests,
    request_name,
    sources_of_events,
)
from etl.settings import Catalog

Ingested = Callable[..., dict[str, Any]]


def with_lists(place: Place, folder: Path, **lists: str) -> Place:
    """The place with the url lists of its sources written to ``folder``."""
    sources = {}
    for name, text in lists.items():
        (folder / f"{name}.csv").write_text(text)
        sources[name] = place.catalog.sources[name].model_copy(update={"uri": str(folder / f"{name}.csv")})
    return replace(place, catalog=replace(place.catalog, sources={**place.catalog.sources, **sources}))


def test_nightly_run_takes_the_nightly_sources_only(place: Place, tmp_path: Path) -> None:
    place = with_lists(place, tmp_path, pets="url\nhttp://a/1\n", cars="url\nhttp://a/2\n")
    assert {one["source"] for one in plan_ingest_shards(place, {}, "r").references} == {"pets"}


def test_sources_that_were_asked_for_are_taken_nightly_or_not(place: Place, tmp_path: Path) -> None:
    place = with_lists(place, tmp_path, cars="url\nhttp://a/2\n")
    (found,) = plan_ingest_shards(place, {"sources": ["cars"]}, "r").references
    assert found == {**found, "source": "cars", "attempt": 1, "label": f"cars {found['shard'][:8]}"}


def test_a_retried_plan_gives_the_same_references(place: Place, tmp_path: Path) -> None:
    place = with_lists(place, tmp_path, pets="url\nhttp://a/1\nhttp://a/2\n")
    assert plan_ingest_shards(place, {}, "r") == plan_ingest_shards(place, {}, "r")


def test_a_settled_shard_that_was_asked_for_is_downloaded_again(place: Place, ingested: Ingested) -> None:
    ingested("aaaa1", ok=1)
    ingested("bbbb2", ok=1, first=10)
    (found,) = plan_ingest_shards(place, {"shards": ["bb"]}, "r").references
    assert found == {"source": "pets", "shard": "bbbb2", "attempt": 2, "label": "pets bbbb2 #2"}


def test_an_unreadable_list_is_a_problem_that_holds_up_no_other_source(place: Place, tmp_path: Path) -> None:
    place = with_lists(place, tmp_path, pets="no\ncolumn\n", cars="url\nhttp://a/2\n")
    planned = plan_ingest_shards(place, {"sources": ["pets", "cars"]}, "r")
    assert [one["source"] for one in planned.references] == ["cars"]
    assert len(planned.problems) == 1
    assert planned.problems[0].startswith("source pets: ")


def test_a_source_nobody_knows_ends_the_plan_with_the_known_ones(place: Place) -> None:
    with pytest.raises(UnknownNameError, match="unknown source 'dogs'; known: cars, pets"):
        plan_ingest_shards(place, {"sources": ["dogs"]}, "r")


def test_groups_carry_what_a_stage_command_needs(place: Place, ingested: Ingested) -> None:
    ingested("shard-1", ok=2)
    (group,) = plan_annotation_groups(place, {"stages": ["ground", "tag"], "force": True}, "r")
    assert group == {
        "request": group["request"],
        "group": 0,
        "source": "pets",
        "shards": 1,
        "stages": ["tag", "ground"],
        "label": "pets shard-1",
    }


def test_run_started_by_images_takes_their_sources_unless_a_person_named_others(
    place: Place, ingested: Ingested
) -> None:
    ingested("shard-1", ok=2)
    ingested("shard-2", ok=2, source="cars")
    force = {"force": True}
    assert [g["source"] for g in plan_annotation_groups(place, force, "r1", ["cars"])] == ["cars"]
    asked = {**force, "sources": ["pets"]}
    assert [g["source"] for g in plan_annotation_groups(place, asked, "r2", ["cars"])] == ["pets"]
    assert [g["source"] for g in plan_annotation_groups(place, force, "r3")] == ["cars", "pets"]


def test_one_shard_can_be_asked_for_by_the_beginning_of_its_id(place: Place, ingested: Ingested) -> None:
    ingested("aaaa1", ok=1)
    ingested("bbbb2", ok=1, first=10)
    (group,) = plan_annotation_groups(place, {"shards": ["bb"], "force": True}, "r")
    assert group["label"] == "pets bbbb2"


def test_empty_lake_has_nothing_to_annotate(place: Place) -> None:
    assert plan_annotation_groups(place, {}, "r") == []


def test_runs_of_two_dags_never_share_a_request() -> None:
    assert request_name("ingest", "scheduled__1") != request_name("annotate", "scheduled__1")


def test_events_name_sources_once_and_may_name_none() -> None:
    events = {"images": [SimpleNamespace(extra={"sources": ["b", "a"]}), SimpleNamespace(extra={"sources": ["a"]})]}
    assert sources_of_events(events) == ["a", "b"]
    assert sources_of_events({"images": [SimpleNamespace(extra=None)]}) == []
    assert sources_of_events(None) == []


@pytest.mark.parametrize("choice", ["tag", "tag=", "colour=x"])
def test_model_that_is_not_stage_and_name_is_refused(choice: str) -> None:
    with pytest.raises(ConfigurationError, match="expected stage=model"):
        models_of([choice])


def test_manifests_that_follow_annotations_are_built_unless_others_are_named(place: Place) -> None:
    assert [one["name"] for one in plan_manifests(place, {})] == ["a"]
    assert [one["name"] for one in plan_manifests(place, {"names": ["b"]})] == ["b"]
    with pytest.raises(UnknownNameError, match="unknown manifest 'c'"):
        plan_manifests(place, {"names": ["c"]})


def test_reference_of_a_manifest_remembers_its_latest_version(place: Place, lake: Lake) -> None:
    for version, day in (("v2", 2), ("v1", 1)):
        lake.append("manifests", [manifest("a", version, day)], version)
    assert [one["before"] for one in plan_manifests(place, {"names": ["a", "b"]})] == ["v2", None]


def test_catalog_without_nightly_sources_or_manifests_plans_nothing(place: Place) -> None:
    place = replace(place, catalog=Catalog())
    assert plan_ingest_shards(place, {}, "r").references == []
    assert plan_manifests(place, {}) == []


def manifest(name: str, version: str, day: int) -> dict[str, Any]:
    built = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    texts = {"format": "jsonl", "path": "p", "lock": "{}"}
    return {"name": name, "version": version, **texts, "n_images": 1, "n_annotations": 0, "built_at": built}
