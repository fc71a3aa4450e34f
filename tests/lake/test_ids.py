"""Ids are made of content: equal content, equal id, in any process."""

from __future__ import annotations

import hashlib

import pytest

from etl.lake.ids import LENGTH, digest, digest_bytes, url_digest


def test_an_id_is_the_first_32_hex_digits_of_sha256() -> None:
    assert digest_bytes(b"bytes") == hashlib.sha256(b"bytes").hexdigest()[:32]
    assert len(digest("x")) == LENGTH == 32


def test_an_id_is_the_same_in_every_version_and_process() -> None:
    assert digest("tag", 1, {"b": [1.5, None], "a": "ü"}) == "8817d2f81049edb0c2992de316e49499"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b"), ("ab",)),
        (("a", 1), ("a", "1")),
        ((["a", "b"],), (["b", "a"],)),
        ((1,), (1, None)),
        ((0,), (False,)),
    ],
    ids=["joined", "type", "order", "length", "false is not 0"],
)
def test_different_content_differs(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert digest(*one) != digest(*other)


def test_the_order_of_keys_does_not_matter() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_not_a_number_has_no_id() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_a_url_is_digested_as_utf_8() -> None:
    assert url_digest("http://x/ü") == digest_bytes("http://x/ü".encode())
