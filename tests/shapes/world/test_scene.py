"""The truth of a scene is what its pixels show."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, binary_erosion

from etl.shapes.world import scene as world
from etl.shapes.world.scene import SIZES, SMALLEST, TOO_CLOSE, VISIBLE, Scene, make_scene
from etl.shapes.world.splits import numbered_scene
from etl.shapes.world.words import COLOUR_NAMES, COLOURS, GRAY, NUMBERS, PLAIN, SHAPES, TEXTURES

RINGS = 2  # pixels around a mask that its soft edge may colour


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [numbered_scene("test", number) for number in range(80)]


def iou(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    inner = np.maximum(0, np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).prod()
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)]
    return float(inner / (sum(areas) - inner))


def covered(scene: Scene) -> np.ndarray:
    """How many instances each pixel belongs to."""
    return sum((one.mask.astype(int) for one in scene.instances), np.zeros(scene.pixels.shape[:2], int))


def test_the_same_generator_state_gives_the_same_scene():
    first, second = (make_scene(np.random.default_rng([1, 2])) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert [one.phrase for one in first.instances] == [one.phrase for one in second.instances]
    for one, other in zip(first.instances, second.instances, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


def test_a_scene_has_one_of_the_sizes_and_at_most_eight_instances(scenes: list[Scene]):
    counts = [len(scene.instances) for scene in scenes]
    assert {scene.pixels.shape[1::-1] for scene in scenes} <= set(SIZES)
    assert all(one.mask.shape == scene.pixels.shape[:2] for scene in scenes for one in scene.instances)
    assert set(counts) <= set(range(9))
    assert np.mean(np.asarray(counts) == 0) < 0.1


def test_every_shape_colour_and_texture_is_drawn(scenes: list[Scene]):
    instances = [one for scene in scenes for one in scene.instances]
    assert {one.shape for one in instances} == set(SHAPES)
    assert {one.colour for one in instances} == set(COLOUR_NAMES)
    assert {one.texture for one in instances} == set(TEXTURES)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), width=st.integers(2, 220), height=st.integers(48, 220), count=st.integers(0, 8))
def test_any_size_and_count_gives_a_scene_whose_truth_holds_together(seed: int, width: int, height: int, count: int):
    scene = make_scene(np.random.default_rng(seed), size=(width, height), count=count)
    assert scene.pixels.shape == (height, width, 3)
    assert len(scene.instances) <= count
    assert covered(scene).max() <= 1
    assert all(0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height for x1, y1, x2, y2 in (o.box for o in scene.instances))


def test_no_pixel_belongs_to_two_instances(scenes: list[Scene]):
    assert max(covered(scene).max() for scene in scenes) == 1


def test_a_box_touches_its_mask_on_all_four_sides_and_holds_all_of_it(scenes: list[Scene]):
    for one in (one for scene in scenes for one in scene.instances):
        x1, y1, x2, y2 = one.box
        inside = one.mask[y1:y2, x1:x2]
        assert inside.sum() == one.mask.sum()
        assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_no_two_boxes_are_nearly_the_same(scenes: list[Scene]):
    for scene in scenes:
        pairs = itertools.combinations([one.box for one in scene.instances], 2)
        assert all(iou(one, other) <= TOO_CLOSE for one, other in pairs)


def test_a_placement_whose_box_is_nearly_anothers_is_refused_though_nothing_is_hidden():
    frame, inside, corner = (np.zeros((40, 40), bool) for _ in range(3))
    frame[:, [0, -1]] = frame[[0, -1]] = True
    inside[4:36, 4:36] = True
    corner[4:30, 4:30] = True
    assert iou((0, 0, 40, 40), (4, 4, 36, 36)) > TOO_CLOSE > iou((0, 0, 40, 40), (4, 4, 30, 30))
    assert not world._acceptable([frame, inside], [frame.sum(), inside.sum()])
    assert world._acceptable([frame, corner], [frame.sum(), corner.sum()])


def test_extents_reach_from_the_smallest_to_half_the_longer_side(scenes: list[Scene]):
    shares, sides = [], []
    for scene in scenes:
        longer = max(scene.pixels.shape)
        for x1, y1, x2, y2 in (one.box for one in scene.instances):
            sides.append(max(x2 - x1, y2 - y1))
            shares.append(sides[-1] / longer)
    # A square reaches 1.2 of its extent when turned, stretching adds a tenth; a border or a neighbour cuts some off.
    assert 0.4 < max(shares) < 0.5 * 1.2 * 1.11
    assert min(sides) > 0.7 * SMALLEST


@pytest.mark.parametrize("seed", range(4))
def test_at_least_seven_tenths_of_every_instance_can_be_seen(seed: int):
    placed = world._place(np.random.default_rng(seed), 160, 128, 8, (24, 80), gray=False)
    whole = [one.distance < 0 for one in placed]
    for number, mask in enumerate(whole):
        hidden = np.logical_or.reduce([mask & over for over in whole[number + 1 :]] or [np.zeros_like(mask)])
        assert len(placed) > 1
        assert 1 - hidden.sum() / mask.sum() >= VISIBLE


def test_later_instances_lie_over_earlier_ones():
    found = 0
    for seed in range(12):
        placed = world._place(np.random.default_rng(seed), 160, 128, 8, (24, 80), gray=False)
        masks = world._visible([one.distance < 0 for one in placed])
        for (below, seen), above in itertools.combinations(zip(placed, masks, strict=True), 2):
            both = (below.distance < 0) & (above[0].distance < 0)
            found += bool(both.any())
            assert not (seen & both).any()
    assert found > 3


def test_two_instances_of_one_colour_never_overlap():
    for seed in range(6):
        placed = world._place(np.random.default_rng(seed), 128, 128, 8, (24, 64), gray=True)
        assert sum((one.distance < 0).astype(int) for one in placed).max() == 1


class TestPixels:
    """What is drawn is what the masks say: paint another colour, and see what changes."""

    @pytest.mark.parametrize("number", range(8))
    def test_another_colour_changes_the_masks_of_that_colour_and_their_soft_edges_only(
        self, number: int, monkeypatch: pytest.MonkeyPatch
    ):
        before = numbered_scene("test", number, count=6)
        colour = before.instances[0].colour
        monkeypatch.setitem(COLOURS, colour, tuple((value + 128) % 256 for value in COLOURS[colour]))
        after = numbered_scene("test", number, count=6)
        changed = (before.pixels != after.pixels).any(axis=2)
        mask = np.logical_or.reduce([one.mask for one in before.instances if one.colour == colour])
        assert [one.phrase for one in before.instances] == [one.phrase for one in after.instances]
        assert not (mask & ~changed).any()
        assert not (changed & ~binary_dilation(mask, np.ones((3, 3)), iterations=RINGS)).any()

    def test_a_plain_instance_has_its_colour(self, scenes: list[Scene]):
        for scene in scenes:
            for one in scene.instances:
                inner = binary_erosion(one.mask, iterations=RINGS)
                if one.texture == PLAIN and one.colour != GRAY and inner.sum() > 50:
                    said = np.median(scene.pixels[inner], axis=0)
                    away = {name: float(np.linalg.norm(said - rgb)) for name, rgb in COLOURS.items()}
                    assert min(away, key=away.__getitem__) == one.colour

    def test_a_textured_instance_has_light_and_dark_pixels_and_a_plain_one_has_not(self, scenes: list[Scene]):
        for scene in scenes:
            for one in scene.instances:
                inner = binary_erosion(one.mask, iterations=RINGS)
                if one.colour != GRAY and inner.sum() > 500:
                    light = scene.pixels[inner].max(axis=1)
                    low, high = np.percentile(light, [4, 96])
                    assert (low < 0.7 * high) == (one.texture != PLAIN)

    def test_a_gray_scene_has_no_colour_at_all(self, scenes: list[Scene]):
        colours: dict[bool, set[str]] = {True: set(), False: set()}
        for scene in scenes:
            gray = bool((scene.pixels == scene.pixels[..., :1]).all())
            colours[gray] |= {one.colour for one in scene.instances}
        assert colours == {True: {GRAY}, False: set(COLOURS)}


class TestWords:
    def test_tags_are_the_shapes_colours_and_named_textures_that_are_there(self, scenes: list[Scene]):
        for scene in scenes:
            words = {word for one in scene.instances for word in one.phrase.split()}
            assert scene.tags == sorted(words)
            assert PLAIN not in scene.tags

    def test_the_sentence_counts_the_instances_and_names_what_they_are(self):
        scene = numbered_scene("test", 1, count=5)
        words = scene.sentence.replace(",", " ").split()
        assert words[0] == NUMBERS[len(scene.instances)]
        assert set(words) & {*SHAPES, *COLOUR_NAMES} == {w for one in scene.instances for w in (one.shape, one.colour)}

    def test_a_scene_without_shapes_has_no_tags_and_says_so(self):
        scene = numbered_scene("test", 1, count=0)
        assert (scene.tags, scene.sentence) == ([], "no shapes")
