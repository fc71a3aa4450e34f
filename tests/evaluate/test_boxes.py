"""Average precision: by hand where it is small, and the same as pycocotools gives for the same data as COCO JSON."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from said import pair
from scored_lake import SIZE, Object

from etl.evaluate.boxes import AveragePrecision, Kind, Precision
from etl.evaluate.rows import Instance, Pair

LEFT, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10)


def precision(*pairs: Pair, kind: Kind = "bbox") -> Precision:
    average = AveragePrecision(kind)
    average.add(pairs)
    return average.result()


def world(images: int, seed: int = 0) -> list[Pair]:
    """Images with objects of three classes, found with errors of every kind; some have none, on either side."""
    random, found = np.random.default_rng(seed), []
    for number in range(images):
        truth = [_somewhere(random) for _ in range(random.integers(0, 5))]
        seen = [_moved(random, one) for one in truth if random.random() < 0.8]
        seen += [_somewhere(random) for _ in range(random.integers(0, 3))]
        seen.sort(key=lambda one: -one.score)
        found.append(pair(truth, seen, name=f"{number:04d}"))
    return found


def _somewhere(random: np.random.Generator) -> Object:
    x, y, width, height = (int(v) for v in random.integers((0, 0, 4, 4), (25, 15, 15, 15)))
    label = str(random.choice(["dog", "cat", "car"]))
    return Object(label, (x, y, x + width, y + height), score=round(float(random.random()), 1))  # so that some tie


def _moved(random: np.random.Generator, one: Object) -> Object:
    x1, y1, x2, y2 = one.box
    dx, dy = (int(v) for v in random.integers(0, 3, 2))
    label = one.label if random.random() < 0.9 else "bird"  # which the truth never names
    box = (x1 + dx, y1 + dy, min(x2 + dx, SIZE[0]), min(y2 + dy, SIZE[1]))
    return Object(label, box, mask=(box[0], box[1], box[2] - 1, box[3]), score=round(float(random.random()), 1))


def by_pycocotools(folder: Path, pairs: Sequence[Pair], kind: Kind) -> list[float]:
    """AP, AP50 and AP75 that pycocotools gives for the same images, written as COCO JSON and read by it."""
    names = ["bird", "car", "cat", "dog"]
    images = [{"id": n, "width": one.width, "height": one.height} for n, one in enumerate(pairs, 1)]
    truth = [_coco(one, n, names) for n, of_image in enumerate(pairs, 1) for one in of_image.truth.instances]
    seen = [_coco(one, n, names) for n, of_image in enumerate(pairs, 1) for one in of_image.predicted.instances]
    annotations = [one | {"id": number, "iscrowd": 0} for number, one in enumerate(truth, 1)]
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    drop = "segmentation" if kind == "bbox" else "bbox"
    (folder / "seen.json").write_text(json.dumps([{k: v for k, v in one.items() if k != drop} for one in seen]))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation: Any = COCOeval(coco, coco.loadRes(str(folder / "seen.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:3]]


def _coco(one: Instance, image: int, names: Sequence[str]) -> dict[str, Any]:
    mask = {"size": one.mask["size"], "counts": one.mask["counts"].decode()}
    area = one.box[2] * one.box[3]
    return {"image_id": image, "category_id": names.index(one.label) + 1, "bbox": list(one.box), "area": area} | {
        "segmentation": mask,
        "score": one.score,
    }


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_it_is_what_pycocotools_gives_for_the_same_data_as_coco_json(tmp_path: Path, kind: Kind) -> None:
    pairs = world(120)
    found = precision(*pairs, kind=kind)
    assert [found.ap, found.ap50, found.ap75] == pytest.approx(by_pycocotools(tmp_path, pairs, kind), abs=1e-12)
    assert 0.1 < (found.ap or 0) < (found.ap50 or 0) < 0.9


def test_images_may_be_given_a_few_at_a_time() -> None:
    pairs, average = world(70), AveragePrecision("bbox")
    for start in range(0, 70, 7):
        average.add(pairs[start : start + 7])
    assert average.result() == precision(*pairs)


def test_more_calls_than_are_kept_apart_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = precision(*world(70))
    monkeypatch.setattr("etl.evaluate.boxes._JOINED_AFTER", 2)
    monkeypatch.setattr("etl.evaluate.boxes._AT_ONCE", 3)
    assert precision(*world(70)) == expected


def test_a_shifted_box_counts_up_to_the_overlap_it_still_has() -> None:
    # Two dogs; the better detection is exact, the other is shifted by 2 of 10 columns: IoU 8 / 12 = .67. At the four
    # thresholds up to .65 both are right: precision 1 at all recalls. At the other six only the first is: precision 1
    # up to recall .5, which are 51 of the 101 recalls, then none.
    truth = [Object("dog", LEFT), Object("dog", RIGHT)]
    found = precision(pair(truth, [Object("dog", LEFT, score=0.9), Object("dog", (22, 0, 32, 10), score=0.5)]))
    assert found.ap == pytest.approx((4 * 1 + 6 * 51 / 101) / 10)
    assert (found.ap50, found.ap75) == pytest.approx((1.0, 51 / 101))


def test_a_false_detection_costs_only_what_is_ranked_below_it() -> None:
    truth = [Object("dog", LEFT)]
    right, wrong = Object("dog", LEFT, score=0.5), Object("dog", RIGHT, score=0.4)
    assert precision(pair(truth, [right, wrong])).ap == 1.0
    assert precision(pair(truth, [Object("dog", RIGHT, score=0.6), right])).ap == pytest.approx(0.5)


def test_half_of_a_mask_is_right_at_the_lowest_threshold_alone() -> None:
    seen = [Object("dog", LEFT, mask=(0, 0, 5, 10))]  # 50 of 100 pixels: IoU .5
    found = precision(pair([Object("dog", LEFT)], seen), kind="segm")
    assert (found.ap, found.ap50, found.ap75) == pytest.approx((0.1, 1.0, 0.0))
    assert precision(pair([Object("dog", LEFT)], seen)).ap == 1.0


def test_the_mean_is_over_the_classes_of_the_truth() -> None:
    # dog found, cat called a bird: AP 1 and 0. The bird is of no class of the truth, so only its number tells of it.
    truth = [Object("dog", LEFT), Object("cat", RIGHT)]
    found = precision(pair(truth, [Object("dog", LEFT), Object("bird", RIGHT)]))
    assert (found.ap, found.truth, found.predicted, found.unknown) == (0.5, 2, 2, 1)
    assert {name: (one.ap, one.truth, one.predicted) for name, one in found.classes.items()} == {
        "bird": (None, 0, 1),
        "cat": (0.0, 1, 0),
        "dog": (1.0, 1, 1),
    }


def test_without_predictions_it_is_zero_and_without_truth_it_has_no_value() -> None:
    truth = [Object("dog", LEFT)]
    assert (precision(pair(truth)).ap, precision(pair([], truth)).ap, precision(pair()).ap) == (0.0, None, None)
    assert precision().ap is None


def test_a_detection_in_an_image_without_truth_is_wrong() -> None:
    sure = Object("dog", RIGHT, score=0.9)
    found = precision(pair([Object("dog", LEFT)], [Object("dog", LEFT)], name="a"), pair([], [sure], name="b"))
    assert found.ap == pytest.approx(0.5)


def test_of_an_image_and_class_the_hundred_best_detections_count() -> None:
    wrong = [Object("dog", RIGHT, score=0.9)] * 100
    truth = [Object("dog", LEFT)]
    assert precision(pair(truth, [*wrong[:99], Object("dog", LEFT)])).ap == pytest.approx(1 / 100)
    assert precision(pair(truth, [*wrong, Object("dog", LEFT)])).ap == 0.0
