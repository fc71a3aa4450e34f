"""Training samples: scenes of the split train as arrays, in any of eight orientations."""

import numpy as np
import pytest

from etl.shapes.train import pool
from etl.shapes.train.pool import Pool, Sample, numbered_sample, to_sample
from etl.shapes.world.splits import numbered_scene


@pytest.fixture(scope="module")
def scene_sample() -> Sample:
    return numbered_sample("validation", 4)


def test_a_sample_has_the_masks_boxes_and_kinds_of_its_scene():
    scene = numbered_scene("test", 3, count=6)
    sample = to_sample(scene)
    np.testing.assert_array_equal(sample.pixels, scene.pixels)
    assert sample.boxes.tolist() == [list(one.box) for one in scene.instances]
    for number, one in enumerate(scene.instances, start=1):
        np.testing.assert_array_equal(sample.owners == number, one.mask)


def test_jpeg_changes_pixels_a_little_and_truth_not_at_all():
    scene = numbered_scene("test", 3)
    plain, compressed = to_sample(scene), to_sample(scene, quality=70)
    off = np.abs(plain.pixels.astype(int) - compressed.pixels).mean()
    assert 0 < off < 12
    np.testing.assert_array_equal(plain.owners, compressed.owners)


def test_the_eight_orientations_differ_and_pixels_and_truth_turn_together(scene_sample: Sample):
    turned = [scene_sample.turned(way) for way in range(8)]
    assert len({(one.pixels.shape, one.pixels.tobytes()) for one in turned}) == 8
    for one in turned:
        assert sorted(np.bincount(one.owners.ravel())) == sorted(np.bincount(scene_sample.owners.ravel()))
        for number in range(1, len(one.kinds) + 1):
            seen, before = one.pixels[one.owners == number], scene_sample.pixels[scene_sample.owners == number]
            np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(before, axis=0))


def test_a_pool_draws_from_the_split_train_only(monkeypatch: pytest.MonkeyPatch, scene_sample: Sample):
    seen = []
    monkeypatch.setattr(pool, "numbered_sample", lambda *given: seen.append(given) or scene_sample)
    Pool(seed=5).take(40)
    assert {(split, seed) for split, _, seed in seen} == {("train", 5)}
    assert [number for _, number, _ in seen] == list(range(1, len(seen) + 1))


def test_a_scene_is_used_a_few_times_and_then_replaced(monkeypatch: pytest.MonkeyPatch):
    drawn = iter(range(10_000))
    marked = lambda *_: Sample(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), np.full((1, 3), next(drawn)))  # noqa: E731
    monkeypatch.setattr(pool, "numbered_sample", marked)
    samples = Pool(seed=0, size=5, uses=4).take(200)
    times = np.bincount([int(sample.kinds[0, 0]) for sample in samples])
    assert times.max() == 4
    assert len(times) > 40


def test_after_a_stop_other_scenes_come(monkeypatch: pytest.MonkeyPatch, scene_sample: Sample):
    seen = []
    monkeypatch.setattr(pool, "numbered_sample", lambda split, number, seed: seen.append(number) or scene_sample)
    resumed = Pool(seed=0)
    resumed.skip(100)
    resumed.take(3)
    assert min(seen) == 101
    assert resumed.drawn == max(seen)
