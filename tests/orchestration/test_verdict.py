from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from etl.lake import Lake
from etl.lake.ids import digest
from etl.orchestration.place import Place
from etl.orchestration.planning import plan_annotation_groups
from etl.orchestration.settling import publish, settle_annotate, settle_ingest, settle_manifests
from etl.orchestration.verdict import (
    Counted,
    VerdictError,
    conclude,
    downloads_of_shards,
    failed_tasks,
    outcomes_of_references,
    too_many_failed,
)
from etl.stages.planning import read_request

Ingested = Callable[..., dict[str, Any]]


@pytest.fixture
def annotated(place: Place, ingested: Ingested) -> Callable[..., list[dict[str, Any]]]:
    """Writes outcomes (stage, status, reason, images) of one request over one shard; returns its references."""

    def annotate(request: str, *outcomes: tuple[str, str, str | None, int]) -> list[dict[str, Any]]:
        ingested("shard-1", ok=10)
        references = plan_annotation_groups(place, {"force": True}, request)
        requested_at = datetime.fromisoformat(read_request(place.lake, references[0]["request"]).requested_at)
        for number, (stage, status, reason, images) in enumerate(outcomes):
            rows = [outcome(digest(f"pets/{one}"), stage, status, reason, requested_at) for one in range(images)]
            place.lake.append("outcomes", rows, f"{request}-{number}")
        return references

    return annotate


def outcome(image: str, stage: str, status: str, reason: str | None, requested_at: datetime) -> dict[str, Any]:
    texts = {"annotator_id": stage, "unit": f"u-{stage}-{status}-{reason}", "input_digest": "i", "value_digest": "v"}
    return {
        "image_id": image,
        "shard_id": "shard-1",
        "stage": stage,
        "requested_at": requested_at,
        "status": status,
        "reason": reason,
        "error": None,
        "retryable": False,
        "seconds": 0.1,
        **texts,
    }


def test_failed_tasks_are_named_by_what_they_worked_on() -> None:
    references = [{"label": "pets aaaa"}, {"label": "pets bbbb"}]
    states = {
        "plan": "success",
        "group.tag_0": "success",
        "group.tag_1": "failed",
        "group.ground_1": "upstream_failed",
        "settle": "failed",
    }
    assert failed_tasks(states, references) == ["task group.tag of pets bbbb failed", "task settle failed"]


def test_shard_whose_share_of_failed_urls_passes_the_limit_is_named_with_counts_by_reason(
    place: Place, ingested: Ingested
) -> None:
    references = [ingested("good-shard", ok=6, failed=4), ingested("bad-shard", ok=5, failed=5, first=100)]
    counted = downloads_of_shards(place.lake, references)
    assert sum(one.images for one in counted) == 20
    assert too_many_failed(place.catalog, counted) == [
        "download of shard bad-shar of source pets: 5 of 10 failed (50%, the limit is 40%): timeout 5"
    ]


def test_source_outside_the_catalog_may_lose_half(place: Place, ingested: Ingested) -> None:
    reference = ingested("s", ok=5, failed=5, source="mine")
    assert too_many_failed(place.catalog, downloads_of_shards(place.lake, [reference])) == []


def test_only_shards_of_the_run_are_judged(place: Place, ingested: Ingested) -> None:
    ingested("old", ok=0, failed=9)
    reference = ingested("new", ok=9, first=100)
    assert too_many_failed(place.catalog, downloads_of_shards(place.lake, [reference])) == []


def test_stage_failures_count_once_where_they_happened_first(
    place: Place, annotated: Callable[..., list[dict[str, Any]]]
) -> None:
    references = annotated("r", ("tag", "failed", "not_finite", 10), ("ground", "failed", "upstream_failed", 10))
    problems = too_many_failed(place.catalog, outcomes_of_references(place.lake, references))
    assert problems == ["tag of shard shard-1 of source pets: 10 of 10 failed (100%, the limit is 40%): not_finite 10"]


def test_empty_results_are_not_failures(place: Place, annotated: Callable[..., list[dict[str, Any]]]) -> None:
    references = annotated("r", ("ground", "empty", "no_boxes", 10))
    assert too_many_failed(place.catalog, outcomes_of_references(place.lake, references)) == []


def test_outcomes_of_another_request_are_not_counted(
    place: Place, lake: Lake, annotated: Callable[..., list[dict[str, Any]]]
) -> None:
    references = annotated("r", ("tag", "ok", None, 10))
    other = datetime.now(UTC) + timedelta(hours=1)
    lake.append("outcomes", [outcome(digest("pets/1"), "tag", "failed", "x", other)], "other")
    assert [(one.status, one.images) for one in outcomes_of_references(place.lake, references)] == [("ok", 10)]


def test_verdict_lists_every_problem_and_what_to_do_and_is_not_tried_again() -> None:
    with pytest.raises(VerdictError, match=r"2 problems:\none\ntwo\n  -> clear the task") as raised:
        conclude(["one", "two"], [], "clear the task")
    assert isinstance(raised.value, AirflowFailException)


def test_run_without_problems_or_without_work_is_green() -> None:
    conclude([], [Counted("s", "x", "tag", "failed", "decode", 1)], "")
    conclude([], [], "")


def test_images_event_names_sources_and_counts_but_no_image(place: Place, ingested: Ingested) -> None:
    references = [ingested("s1", ok=3), ingested("s2", ok=2, source="cars")]
    assert settle_ingest(place, references, "ingest/r") == {
        "request": "ingest/r",
        "sources": ["cars", "pets"],
        "shards": 2,
        "images": 5,
    }


def test_shard_that_brought_no_new_picture_sends_no_event(place: Place, ingested: Ingested) -> None:
    ingested("s1", ok=3)
    same_again = ingested("s2", ok=3)  # the same pictures under other urls
    assert settle_ingest(place, [same_again], "r") is None
    assert settle_ingest(place, [ingested("s3", ok=0, failed=2)], "r") is None
    assert settle_ingest(place, [], "r") is None


def test_annotations_event_counts_what_worked_although_something_failed(
    place: Place, annotated: Callable[..., list[dict[str, Any]]]
) -> None:
    references = annotated("r", ("tag", "ok", None, 7), ("ground", "failed", "decode", 3))
    extra = settle_annotate(place, references)
    assert extra == {"request": references[0]["request"], "sources": ["pets"], "outcomes": {"ok": 7, "failed": 3}}


def test_request_that_wrote_no_outcome_sends_no_event(
    place: Place, annotated: Callable[..., list[dict[str, Any]]]
) -> None:
    assert settle_annotate(place, annotated("r")) is None
    assert settle_annotate(place, []) is None


def test_manifests_event_names_versions_that_are_new(place: Place, lake: Lake) -> None:
    row = {"name": "a", "version": "v2", "format": "jsonl", "path": "p", "lock": "{}"}
    row |= {"n_images": 1, "n_annotations": 0, "built_at": datetime.now(UTC)}
    lake.append("manifests", [row], "x")
    assert settle_manifests(place, [{"name": "a", "before": "v1"}]) == {"manifests": {"a": "v2"}}
    assert settle_manifests(place, [{"name": "a", "before": "v2"}, {"name": "b", "before": None}]) is None


def test_task_with_nothing_to_announce_is_skipped_so_that_nothing_downstream_runs() -> None:
    with pytest.raises(AirflowSkipException, match="nothing new"):
        publish(Asset("x"), None, {})
