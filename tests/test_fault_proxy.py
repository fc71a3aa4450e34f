"""The fault proxy does to requests what its table says, or the tests that use it would prove nothing."""

from __future__ import annotations

import uuid

import httpx
import pytest
from fault_proxy import FaultProxy

HANGS_UP = httpx.TransportError
SIGNED = {"Authorization": "AWS test:unchecked"}  # objects are not public


@pytest.fixture
def bucket(s3_server: str) -> str:
    name = f"/proxy-{uuid.uuid4().hex[:8]}"
    httpx.put(f"{s3_server}{name}", verify=False).raise_for_status()
    return name


# Fault -> what a PUT gets, and whether the server has it afterwards.
SEEN = {
    "error": (500, False),
    "slow_down": (503, False),
    "reset": (HANGS_UP, False),
    "slow": (200, True),
    "late": (200, True),
    "lost": (HANGS_UP, True),
    "cut": (HANGS_UP, True),
    "false": (500, True),
    "403 AccessDenied": (403, False),
}


@pytest.mark.parametrize(("fault", "outcome", "there"), [(f, *seen) for f, seen in SEEN.items()], ids=SEEN)
def test_a_put_meets_its_fault_once(s3_server: str, bucket: str, fault: str, outcome: object, there: bool) -> None:
    with FaultProxy(s3_server, delay=0.01) as proxy, httpx.Client(headers=SIGNED, verify=False) as client:
        proxy.rule(fault, method="PUT", path="key")
        if outcome is HANGS_UP:
            with pytest.raises(HANGS_UP):
                client.put(f"{proxy.url}{bucket}/key", content=b"x")
        else:
            assert client.put(f"{proxy.url}{bucket}/key", content=b"x").status_code == outcome
        assert (client.get(f"{proxy.url}{bucket}/key").status_code == 200) is there
        assert client.put(f"{proxy.url}{bucket}/key", content=b"x").status_code == 200
        assert proxy.counts == {fault: 1, "passed": 2}


def test_an_answer_that_is_cut_is_no_shorter_answer(s3_server: str, bucket: str) -> None:
    with FaultProxy(s3_server) as proxy:
        httpx.put(f"{proxy.url}{bucket}/key", content=b"x" * 1000)
        proxy.rule("cut", method="GET")
        with pytest.raises(HANGS_UP):
            httpx.get(f"{proxy.url}{bucket}/key", headers=SIGNED)


def test_chance_is_the_same_for_the_same_seed_and_sleeps_in_a_pause(s3_server: str, bucket: str) -> None:
    def run(seed: int) -> list[int]:
        with (
            FaultProxy(s3_server, seed=seed, rates={"error": 0.3, "slow_down": 0.2}) as proxy,
            httpx.Client(headers=SIGNED, verify=False) as client,
        ):
            statuses = [client.head(f"{proxy.url}{bucket}/{n % 5}").status_code for n in range(40)]
            with proxy.pause():
                assert {client.head(f"{proxy.url}{bucket}/{n}").status_code for n in range(10)} == {404}
            return statuses

    assert run(1) == run(1) != run(2)
    assert set(run(1)) == {404, 500, 503}


def test_a_rule_may_let_some_pass_first(s3_server: str, bucket: str) -> None:
    with FaultProxy(s3_server) as proxy, httpx.Client(headers=SIGNED, verify=False) as client:
        proxy.rule("error", skip=1, times=2)
        assert [client.head(f"{proxy.url}{bucket}").status_code for _ in range(4)] == [200, 500, 500, 200]
