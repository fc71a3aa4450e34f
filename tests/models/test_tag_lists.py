"""Lists of tags and thresholds beside the weights."""

from pathlib import Path

import numpy as np
import pytest

from etl.errors import ConfigurationError
from etl.models.tag_lists import made_thresholds, read_tags, read_thresholds

NAMES = ("ram_tag_list.txt", "tag_list.txt")
RULE = {"threshold": 0.68, "overrides": {"2": 0.7}, "deleted": [0]}


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_last_line_without_an_end_is_a_line(tmp_path: Path, end: str):
    (tmp_path / "tag_list.txt").write_text("cat\nrubik's cube\n3D glasses" + end)
    assert read_tags(tmp_path, NAMES, 3) == ["cat", "rubik's cube", "3D glasses"]


def test_upstreams_name_is_preferred_to_ours(tmp_path: Path):
    (tmp_path / "tag_list.txt").write_text("old")
    (tmp_path / "ram_tag_list.txt").write_text("new")
    assert read_tags(tmp_path, NAMES, 1) == ["new"]


def test_names_may_repeat(tmp_path: Path):
    (tmp_path / "tag_list.txt").write_text("run\nwalk\nrun")
    assert read_tags(tmp_path, NAMES, 3) == ["run", "walk", "run"]


def test_a_missing_list_is_refused_with_the_name_upstream_gives_it(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"(.|\n)*put upstream's ram_tag_list\.txt beside"):
        read_tags(tmp_path, NAMES, 1)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_a_list_that_says_nothing_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "tag_list.txt").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"is empty|no readable tag_list"):
        read_tags(tmp_path, NAMES, 1)


@pytest.mark.parametrize(
    ("content", "words"), [("0.5\nhalf", "threshold 2 is 'half'"), ("0.5\n65", "threshold 2 is '65'")]
)
def test_thresholds_that_are_no_shares_are_refused(tmp_path: Path, content: str, words: str):
    (tmp_path / "tag_list.txt").write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        read_thresholds(tmp_path, NAMES, 2)


def test_a_rule_gives_one_threshold_with_exceptions_and_switches_deleted_tags_off():
    np.testing.assert_array_equal(made_thresholds("here", RULE, 4), [1.0, 0.68, 0.7, 0.68])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RULE | {"deleted": [4]}, r"here names the tags \[4\], but there are 4"),
        (RULE | {"overrides": {"-1": 0.5}}, r"here names the tags \[-1\]"),
        ({"threshold": 0.5}, "expected 'threshold', 'overrides' and 'deleted'"),
        (None, "expected 'threshold'"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rule, words: str):
    with pytest.raises(ConfigurationError, match=words):
        made_thresholds("here", rule, 4)
