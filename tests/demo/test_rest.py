"""The REST client tries again what Airflow answers wrong for a while, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from etl.demo.rest import ATTEMPTS, AirflowApiError, AirflowClient

Answers = list[httpx.Response | Exception]


class FakeAirflow:
    """Gives the listed answers in order, and any token; remembers what it was asked."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[httpx.Request] = []
        self.tokens = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            self.tokens += 1
            return httpx.Response(201, json={"access_token": f"token-{self.tokens}"})
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def connect() -> Callable[[FakeAirflow], AirflowClient]:
    def make(fake: FakeAirflow) -> AirflowClient:
        transport = httpx.MockTransport(fake)
        return AirflowClient("http://127.0.0.1:1", "secret", transport=transport, sleep=lambda _: None)

    return make


Connect = Callable[[FakeAirflow], AirflowClient]


def test_an_error_of_the_server_and_a_lost_connection_are_tried_again(connect: Connect) -> None:
    fake = FakeAirflow([httpx.Response(500), httpx.ConnectError("gone"), httpx.Response(200, json={"state": "queued"})])
    assert connect(fake).run("ingest", "r1") == {"state": "queued"}
    assert len(fake.asked) == 3


def test_an_error_that_stays_is_reported_with_its_answer(connect: Connect) -> None:
    fake = FakeAirflow([httpx.Response(503, text="out of order")] * ATTEMPTS)
    with pytest.raises(AirflowApiError, match="503: out of order"):
        connect(fake).run("ingest", "r1")


def test_a_refused_request_is_not_tried_again(connect: Connect) -> None:
    fake = FakeAirflow([httpx.Response(404, text="no such DAG")])
    with pytest.raises(AirflowApiError, match="no such DAG"):
        connect(fake).run("typo", "r1")
    assert len(fake.asked) == 1


def test_an_expired_token_is_renewed_once(connect: Connect) -> None:
    fake = FakeAirflow([httpx.Response(401), httpx.Response(200, json={"state": "success"})])
    assert connect(fake).run("ingest", "r1") == {"state": "success"}
    assert [request.headers["Authorization"] for request in fake.asked] == ["Bearer token-1", "Bearer token-2"]


def test_a_trigger_whose_answer_was_lost_starts_no_second_run(connect: Connect) -> None:
    fake = FakeAirflow([httpx.ReadTimeout("late"), httpx.Response(409, text="exists")])
    connect(fake).trigger("ingest", {"source": "demo"}, "demo-1")
    bodies = [json.loads(request.content) for request in fake.asked]
    assert bodies == [{"dag_run_id": "demo-1", "logical_date": None, "conf": {"source": "demo"}}] * 2


def test_a_pool_that_exists_is_fine(connect: Connect) -> None:
    connect(FakeAirflow([httpx.Response(409, text="exists")])).ensure_pool("gpu", 2)


def test_health_of_a_server_that_does_not_answer_is_empty(connect: Connect) -> None:
    assert connect(FakeAirflow([httpx.ConnectError("not yet")])).health() == {}


def test_a_log_gives_the_text_of_every_entry_and_of_its_exceptions_without_group_marks(connect: Connect) -> None:
    entries = [
        {"event": "::group::Log message source details"},
        {"event": "groundlake stage run tag"},
        {"event": "Task failed with exception", "error_detail": [{"exc_type": "StageBadData", "exc_value": "65"}]},
    ]
    fake = FakeAirflow([httpx.Response(200, json={"content": entries})])
    task = {"dag_id": "annotate", "dag_run_id": "a+b", "task_id": "group.tag", "try_number": 2, "map_index": 1}
    assert connect(fake).log(task) == ["groundlake stage run tag", "Task failed with exception", "StageBadData: 65"]
    assert fake.asked[0].url.raw_path.startswith(b"/api/v2/dags/annotate/dagRuns/a%2Bb/taskInstances/group.tag/logs/2")
