"""A lake to write pictures into, the fake stages, and a desk that runs them."""

import pytest

from etl.lake import Lake


@pytest.fixture
def hand(lake: Lake):
    """Writes pictures into the lake."""
    from handmade import Handmade

    return Handmade(lake)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch):
    """The fake stages instead of the real ones; see ``tests/fake_stages.py``."""
    import fake_stages

    fake_stages.install(monkeypatch)
    for seen in (fake_stages.FakeTag.loads, fake_stages.FakeTag.seen, fake_stages.FakeTag.pixels):
        seen.clear()
    fake_stages.FakeGround.seen.clear()
    return fake_stages


@pytest.fixture
def desk(lake, fakes):
    """Plans and runs the fake stages; see ``tests/stage_desk.py``."""
    from stage_desk import Desk

    return Desk(lake, fakes)


@pytest.fixture
def many(hand):
    """25 pictures in one shard: with slices of ten, three slices."""
    from handmade import Picture

    hand.add(*(Picture(size=(24, 16), seed=n, format="PNG") for n in range(25)))
    return hand.ids
