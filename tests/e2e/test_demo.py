"""The whole system once: a real Airflow, driven over REST, from urls served on loopback to manifests.

Mocks are blind here: what can break is between the parts, such as an asset that starts nothing, a task whose pool does
not exist, a command line that a DAG and the command disagree on, or a stage that outlives its scheduler. Every count is
compared with what the picture server was made to serve, or with another table.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from etl.demo import pictures
from etl.demo.demo import Demo, demo, trigger
from etl.demo.follow import Follower, Run
from etl.demo.prepare import MANIFESTS, SHARDS, SOURCE
from etl.demo.processes import MARKER
from etl.demo.report import Report
from etl.demo.scores import score
from etl.demo.summary import check_counts, counts, print_summary, unfinished
from etl.evaluate.evaluation import Evaluation
from etl.lake import Snapshot
from etl.lake.schemas import TABLES
from etl.settings.catalog import STAGES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class World:
    """A demo that is up, and what was seen of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.report = Report(Console(file=io.StringIO(), width=200))
        self._stack = ExitStack()
        self.demo: Demo = self._stack.enter_context(demo(root, self.report))
        self.folder = str(self.demo.layout.folder)

    def ingest(self) -> list[Run]:
        """Trigger the ingest DAG as a person would, and wait for all that follows from it."""
        run = trigger(self.demo, "ingest", {"sources": [SOURCE]})
        return Follower(self.demo.airflow, self.report).follow([run])

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with Snapshot.take(self.demo.lake).connect() as connection:
            return connection.execute(query, list(parameters)).fetchall()

    def said(self) -> str:
        assert isinstance(self.report.console.file, io.StringIO)
        return self.report.console.file.getvalue()

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("GROUNDLAKE_", "AIRFLOW")):
                patch.delenv(name)
        patch.setattr(pictures, "SCENES", 64)  # every kind of file, in a third of the demo's time
        world = World(tmp_path_factory.mktemp("clone"))
        try:
            yield world
        finally:
            world.close()


@pytest.fixture(scope="module")
def runs(world: World) -> list[Run]:
    """The runs of the first ingest and of what its assets started."""
    try:
        return world.ingest()
    except Exception:
        print(world.said())  # noqa: T201 - the log of the failed task
        raise


def test_one_ingest_run_starts_annotate_and_that_starts_manifest(runs: list[Run]) -> None:
    assert [run.dag for run in runs] == ["ingest", "annotate", "manifest"]


def test_every_served_url_is_settled_as_what_it_was_made_to_be(world: World, runs: list[Run]) -> None:
    sample = world.demo.sample
    found = counts(world.demo.lake, SOURCE)
    assert found == {name: number for name, number in sample.expected.items() if number}
    assert sum(found.values()) == sample.n_urls == world.sql("select count(*) from downloads")[0][0]
    check_counts(world.demo.lake, SOURCE, sample)


def test_the_urls_came_in_several_shards(world: World, runs: list[Run]) -> None:
    assert world.sql("select count(*), sum(n_urls) from shards") == [(SHARDS, world.demo.sample.n_urls)]


def test_pictures_and_sightings_are_those_of_the_downloads(world: World, runs: list[Run]) -> None:
    assert world.sql("select distinct image_id from images order by 1") == world.sql(
        "select distinct image_id from downloads where status = 'ok' order by 1"
    )
    assert world.sql("select image_id, url from sightings order by all") == world.sql(
        "select image_id, url from downloads where status = 'ok' order by all"
    )


def test_every_picture_has_exactly_one_outcome_of_every_stage(world: World, runs: list[Run]) -> None:
    images = world.sql("select image_id from images order by 1")
    for stage in STAGES:
        assert world.sql("select image_id from raw.outcomes where stage = ? order by 1", stage) == images
    assert unfinished(world.demo.lake, SOURCE) is None


@pytest.mark.parametrize(
    ("stage", "rows"),
    [
        ("tag", "select distinct image_id from tags where len(tags) > 0"),
        ("ground", "select distinct image_id from instances"),
    ],
)
def test_annotations_exist_for_the_pictures_whose_outcome_is_ok_and_no_other(
    world: World, runs: list[Run], stage: str, rows: str
) -> None:
    fine = world.sql("select image_id from outcomes where stage = ? and status = 'ok' order by 1", stage)
    assert fine
    assert world.sql(f"{rows} order by 1") == fine


def test_a_picture_with_an_ok_caption_outcome_has_its_caption_and_one_per_instance(
    world: World, runs: list[Run]
) -> None:
    fine = world.sql("select image_id from outcomes where stage = 'caption' and status = 'ok' order by 1")
    assert fine
    assert world.sql("select image_id from captions where instance_id is null order by 1") == fine
    assert world.sql(
        "select image_id, instance_id from captions where instance_id is not null order by all"
    ) == world.sql(
        "select image_id, instance_id from instances where image_id in "
        "(select image_id from outcomes where stage = 'caption' and status = 'ok') order by all"
    )


def test_every_label_has_a_vector_of_the_encoder(world: World, runs: list[Run]) -> None:
    embedded = "select image_id from outcomes where stage = 'embed' and status = 'ok'"
    missing = world.sql(
        f"select distinct label from instances where image_id in ({embedded}) "
        "and label not in (select text from embeddings)"
    )
    assert missing == []
    assert len(world.sql("select distinct len(vector) from embeddings")) == 1


def test_every_manifest_of_the_catalog_was_built_whole(world: World, runs: list[Run]) -> None:
    built = world.sql("select name, path, n_images from manifests order by name")
    assert [name for name, _, _ in built] == sorted(MANIFESTS)
    for _, path, images in built:
        folder = world.demo.layout.lake / path
        lock = json.loads((folder / "manifest.lock.json").read_text())
        assert lock
        assert images > 0
        assert len(list(folder.iterdir())) > 1


@pytest.fixture(scope="module")
def evaluation(world: World, runs: list[Run]) -> Evaluation:
    """What the annotators of the first run are worth."""
    return score(world.demo.lake, world.demo.sample, world.demo.source)


def test_every_picture_is_scored_against_its_truth(world: World, evaluation: Evaluation) -> None:
    images = world.demo.sample.expected["ok"]
    assert evaluation.images.evaluated == images
    assert evaluation.images.per_stage == {"tag": images, "ground": images, "caption": images}
    assert set(evaluation.images.without_outcome.values()) == set(evaluation.images.failed.values()) == {0}
    assert set(evaluation.tags.groups) == {"shapes", "colours", "textures"}


def test_the_summary_counts_what_is_there_and_calls_annotators_untrained_only_if_they_are(
    world: World, evaluation: Evaluation
) -> None:
    layout = world.demo.layout
    print_summary(world.demo.lake, SOURCE, layout, evaluation, world.report)
    assert f"{world.demo.sample.n_urls} urls served" in world.said()
    assert f"against the truth of {evaluation.images.evaluated} images" in world.said()
    untrained = world.sql("select bool_or(untrained) from current join annotators using (annotator_id)")
    assert ("UNTRAINED" in world.said()) == untrained[0][0]
    for picture in (layout.contact_sheet, layout.worst):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_second_ingest_finds_nothing_new_and_adds_no_row_to_any_table(world: World, runs: list[Run]) -> None:
    query = " union all ".join(f"select '{name}', count(*) from raw.{name}" for name in TABLES)
    before = world.sql(query)
    assert [run.dag for run in world.ingest()] == ["ingest"]
    assert world.sql(query) == before


def test_nobody_outside_this_machine_can_reach_it(world: World) -> None:
    listening = {
        connection.laddr.ip
        for process in _of(world)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_stopping_leaves_no_process(world: World) -> None:
    running = world.demo.airflow
    running.check()
    everyone = _of(world)
    assert len(everyone) >= 5
    world.close()
    assert [process for process in everyone if process.is_running()] == []
    assert _of(world) == []


def _of(world: World) -> list[psutil.Process]:
    """The processes that the demo started, and theirs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == world.folder and process.status() != psutil.STATUS_ZOMBIE:
                found += [process, *process.children(recursive=True)]
        except (psutil.Error, OSError):
            continue
    return list(dict.fromkeys(found))
