"""The sample's truth goes into the lake once, beside the annotators, and they are scored against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from handmade import Handmade, Picture, Thing

from etl.demo.pictures import SampleSource
from etl.demo.scores import GROUPS, TRUTH, score
from etl.evaluate.evaluation import Evaluation
from etl.lake import Lake, Snapshot
from etl.lake.schemas import TABLES
from etl.settings import Settings
from etl.shapes.files.truth import write_truth
from etl.shapes.world.splits import numbered_scene
from etl.shapes.world.words import TAGS

SIZE = (160, 128)
LATER = "http://example.test/demo/1/0"  # of a picture that is not there at first
SHOWN = "select * from tags order by image_id"


@dataclass(frozen=True)
class World:
    """A lake whose pictures are annotated as their scenes are, but with boxes as masks and labels as the only tags."""

    hand: Handmade
    sample: SampleSource
    tags: list[tuple[Any, ...]]
    evaluation: Evaluation

    def score(self) -> Evaluation:
        return score(self.hand.lake, self.sample, "demo")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Scored once."""
    folder = tmp_path_factory.mktemp("scored")
    hand = Handmade(Lake.create(str(folder / "lake"), Settings()))
    scenes = [numbered_scene("test", number, size=SIZE, count=2) for number in range(3)]
    pictures = [
        Picture(
            SIZE, [Thing(one.shape, one.box, one.phrase) for one in scene.instances], caption=scene.sentence, seed=n
        )
        for n, scene in enumerate(scenes)
    ]
    hand.annotate(hand.add(*pictures, source="demo"), *pictures, embed=False)
    write_truth(folder, [*zip(urls(hand.lake), scenes, strict=True), (LATER, scenes[0])])
    sample = SampleSource(folder / "urls.parquet", {"ok": 3}, 3, 0)
    tags = sql(hand.lake, SHOWN)
    return World(hand, sample, tags, score(hand.lake, sample, "demo"))


def sql(lake: Lake, query: str) -> list[tuple[Any, ...]]:
    with Snapshot.take(lake).connect() as connection:
        return connection.execute(query).fetchall()


def urls(lake: Lake) -> list[str]:
    return [url for (url,) in sql(lake, "select url from sightings order by url")]


def rows(lake: Lake) -> list[tuple[Any, ...]]:
    return sql(lake, " union all ".join(f"select '{name}', count(*) from raw.{name}" for name in TABLES))


def test_annotations_are_scored_against_the_truth_of_the_same_url(world: World) -> None:
    found = world.evaluation
    assert found.images.evaluated == 3
    assert (found.boxes.ap, found.boxes.truth) == (pytest.approx(1), 6)
    assert found.captions.instances.exact == found.captions.images.exact == 1
    assert found.masks.mean_iou is not None
    assert 0.3 < found.masks.mean_iou < 1  # the annotator took boxes for masks


def test_tags_are_also_scored_by_shapes_colours_and_textures(world: World) -> None:
    found = world.evaluation.tags.groups
    assert found["shapes"].f1 == 1
    assert found["colours"].f1 == 0
    assert sorted(word for group in GROUPS.values() for word in group) == sorted(TAGS)


def test_truth_is_never_shown_as_what_the_lake_says(world: World) -> None:
    assert sql(world.hand.lake, SHOWN) == world.tags
    assert sql(world.hand.lake, "select distinct model from annotators where kind = 'dataset'") == [(TRUTH,)]


def test_a_second_time_adds_no_row_and_scores_the_same(world: World) -> None:
    before = rows(world.hand.lake)
    assert world.score().to_json() == world.evaluation.to_json()
    assert rows(world.hand.lake) == before


def test_the_truth_of_a_picture_that_came_later_is_landed_too(world: World) -> None:
    picture = Picture(SIZE, seed=9)
    world.hand.annotate(world.hand.add(picture, source="demo"), picture, embed=False)
    assert LATER in urls(world.hand.lake)
    assert world.score().images.evaluated == 4
