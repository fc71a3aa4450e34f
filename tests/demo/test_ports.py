"""A port in use is seen before it is needed, and another one is taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from etl.demo.ports import HOST, answers, free_port, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use_is_not_free_and_answers(taken: int) -> None:
    assert not is_free(taken)
    assert answers(taken)


def test_a_preferred_port_in_use_gives_way_to_another(taken: int) -> None:
    other = free_port(taken)
    assert other != taken
    assert is_free(other)
    assert not answers(other)


def test_a_free_preferred_port_is_taken() -> None:
    port = free_port()
    assert free_port(port) == port
