"""A stage that forgets a part of the contract is refused when its module is imported."""

from __future__ import annotations

from typing import Any

import pytest

from etl.errors import ConfigurationError, UnknownNameError
from etl.settings import ModelEntry, Network
from etl.settings.catalog import STAGES
from etl.stages.contract import Stage, StageOptions, WorkItem
from etl.stages.registry import stage_class
from etl.stages.tag import TagStage

PARTS: dict[str, Any] = {
    "name": "tag",
    "VERSION": 1,
    "upstream": None,
    "reads": (),
    "tables": ("tags",),
    "roles": {},
    "Options": StageOptions,
}


@pytest.mark.parametrize("forgotten", PARTS)
def test_a_forgotten_part_is_named(forgotten):
    parts = {key: value for key, value in PARTS.items() if key != forgotten}

    with pytest.raises(TypeError, match=f"stage Odd must define {forgotten}"):
        type("Odd", (Stage,), parts)


@pytest.mark.parametrize("wrong", [{"name": "paint"}, {"upstream": "paint"}])
def test_a_name_that_is_no_stage_is_refused(wrong):
    with pytest.raises(TypeError, match="name and upstream must be among"):
        type("Odd", (Stage,), {**PARTS, **wrong})


def test_an_abstract_stage_cannot_be_made(fakes):
    with pytest.raises(TypeError, match="abstract"):
        type("Odd", (Stage,), PARTS)(fakes.entry("tag"))


def test_by_default_all_shapes_share_a_batch_and_nothing_is_skipped(fakes):
    class Plain(fakes.FakeTag):
        shape = Stage.shape

    stage = Plain(fakes.entry("tag"))
    assert stage.shape(1, 2) == stage.shape(3, 4)
    assert stage.skip(WorkItem("i", "s", 1, 2, None)) is None


@pytest.mark.parametrize("name", STAGES)
def test_every_registered_stage_keeps_the_contract_and_reads_what_stages_before_it_write(name):
    cls = stage_class(name)
    written: set[str] = set()
    step = cls.upstream
    while step is not None:
        written |= set(stage_class(step).tables)
        step = stage_class(step).upstream

    assert cls.name == name
    assert set(cls.reads) <= written


def test_an_unknown_stage_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="known: caption, embed, ground, tag"):
        stage_class("paint")


def test_a_network_that_does_another_task_is_refused_before_anything_is_loaded():
    sam = Network(family="sam", weights="packaged:shapes/segmenter@000000000000")
    entry = ModelEntry(name="wrong", stage="tag", networks={"tagger": sam})
    with pytest.raises(ConfigurationError, match=r"networks\.tagger\.family: got 'sam', which is no tagger") as caught:
        TagStage(entry)
    assert "ram or ram-plus or tag2text" in str(caught.value.remedy)
