"""The stage tag with every family of taggers, and with own labels."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_models import model_store
from tiny_taggers import TAGS, TAGS_TWICE, items, network, tag_stage, write_label_encoder, write_tagger

from etl.errors import ConfigurationError
from etl.models.open_set import LabelEncoder
from etl.settings import ModelEntry, load_catalog
from etl.stages.annotators import annotator_of
from etl.stages.contract import Result
from etl.stages.tag import TagStage

FAMILIES = ("ram", "ram-plus", "tag2text")
PICTURES = items(5)
LABELS = ["kite", "traffic light", "zebra", "dog"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("taggers")
    folders = {family: write_tagger(root / family, family) for family in FAMILIES}
    return folders | {"clip-text": write_label_encoder(root / "clip"), "other": write_label_encoder(root / "b", seed=9)}


@pytest.fixture(scope="module")
def stages(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TagStage]:
    root = tmp_path_factory.mktemp("store")
    stages = {family: tag_stage(root, {"tagger": network(family, folders[family])}) for family in FAMILIES}
    return stages | {"labels": tag_stage(root, open_set(folders), labels=LABELS)}


@pytest.fixture(scope="module")
def alone(stages: dict[str, TagStage]) -> dict[str, list[Result]]:
    """What every picture gets when it is the only one."""
    return {name: [stage.process([one])[0] for one in PICTURES] for name, stage in stages.items()}


def open_set(folders: dict[str, Path], encoder: str = "clip-text", tagger: str = "ram") -> dict[str, Any]:
    return {"tagger": network(tagger, folders[tagger]), "label_encoder": network("clip-text", folders[encoder])}


def entry(networks: dict[str, Any], **options: Any) -> ModelEntry:
    return ModelEntry(name="tiny", stage="tag", networks=networks, options=options)


@pytest.mark.parametrize("name", [*FAMILIES, "labels"])
def test_pictures_get_tags_of_the_families_list_and_not_all_the_same(alone: dict[str, list[Result]], name: str):
    known = {"tag2text": set(TAGS_TWICE) - {"one"}, "labels": set(LABELS)}.get(name, set(TAGS))
    rows = [result.rows["tags"][0]["tags"] if result.rows else [] for result in alone[name]]
    assert {tag["tag"] for tags in rows for tag in tags} <= known
    assert len({str(tags) for tags in rows}) > 1


@pytest.mark.parametrize("name", [*FAMILIES, "labels"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(order=st.permutations(range(len(PICTURES))), cuts=st.sets(st.integers(1, len(PICTURES) - 1)))
def test_a_picture_gets_the_same_rows_alone_and_in_any_batch_in_any_order(
    stages: dict[str, TagStage], alone: dict[str, list[Result]], name: str, order: list[int], cuts: set[int]
):
    edges = [0, *sorted(cuts), len(order)]
    batches = [order[start:end] for start, end in pairwise(edges)]
    for batch in batches:
        assert stages[name].process([PICTURES[index] for index in batch]) == [alone[name][index] for index in batch]


def test_labels_make_another_annotator_and_so_do_other_labels_templates_and_encoders(
    folders: dict[str, Path], tmp_path: Path
):
    models = model_store(tmp_path)
    for one in (network("ram", folders["ram"]), *(network("clip-text", folders[f]) for f in ("clip-text", "other"))):
        models.add(one, Path(one.weights.removeprefix("file:")))
    entries = [
        entry({"tagger": network("ram", folders["ram"])}),
        entry(open_set(folders), labels=LABELS),
        entry(open_set(folders), labels=LABELS[::-1]),
        entry(open_set(folders), labels=LABELS, label_templates=["{}"]),
        entry(open_set(folders, "other"), labels=LABELS),
    ]
    assert len({annotator_of(TagStage, one, models).annotator_id for one in entries}) == len(entries)


def test_an_annotator_without_labels_is_the_one_it_was_before_there_were_labels():
    options = TagStage(load_catalog().model("tag")).options.model_dump(mode="json")
    assert options == {"threshold": 0.35, "quantile": None, "exclude_tags": [], "max_tags": None}


def test_labels_may_stand_in_a_file_whose_lines_are_what_counts(folders: dict[str, Path], tmp_path: Path):
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    given = [TagStage(entry(open_set(folders), labels=labels)) for labels in (LABELS, f"file:{tmp_path}/labels.txt")]
    assert given[0].options == given[1].options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": ["cat", "cat"]}, "label 'cat' is empty or given twice"),
        ({"labels": ["cat", " "]}, "label ' ' is empty or given twice"),
        ({"labels": []}, "at least 1 item"),
        ({"labels": "file:/nowhere.txt"}, "the file of names cannot be read"),
        ({"labels": "cat"}, "tuple"),
        ({"labels": ["cat"], "label_templates": ["a photo"]}, "has no {} for the label"),
        ({"labels": ["cat"], "label_templates": ["a {colour} {}"]}, "only {} and {article} are filled in"),
    ],
)
def test_labels_and_templates_that_mean_nothing_are_refused(folders: dict[str, Path], options, words: str):
    with pytest.raises(ConfigurationError, match=words):
        TagStage(entry(open_set(folders), **options))


def test_a_second_load_asks_the_encoder_nothing_and_gives_the_same_scores(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = tag_stage(tmp_path, open_set(folders), labels=LABELS)

    def never(*_: Any) -> None:
        raise AssertionError("the encoder was asked")

    monkeypatch.setattr(LabelEncoder, "label_vectors", never)
    second = tag_stage(tmp_path, open_set(folders), labels=LABELS)
    scores = [stage.tagger.scores([one.picture for one in PICTURES]).tobytes() for stage in (first, second)]
    assert scores[0] == scores[1]


def test_labels_and_their_encoder_need_each_other(folders: dict[str, Path]):
    tagger_only = {"tagger": network("ram", folders["ram"])}
    for networks, options in ((tagger_only, {"labels": LABELS}), (open_set(folders), {})):
        with pytest.raises(ConfigurationError, match="'labels' and the network 'label_encoder' need each other"):
            TagStage(entry(networks, **options))


def test_a_network_of_no_role_is_refused(folders: dict[str, Path]):
    networks = {"tagger": network("ram", folders["ram"]), "segmenter": network("sam", folders["ram"])}
    with pytest.raises(ConfigurationError, match=r"needs \['tagger'\] and may have \['label_encoder'\]"):
        TagStage(entry(networks))


def test_a_tagger_without_an_open_set_is_refused(folders: dict[str, Path], tmp_path: Path):
    with pytest.raises(ConfigurationError, match="family 'ram-plus' cannot be asked for own labels"):
        tag_stage(tmp_path, open_set(folders, tagger="ram-plus"), labels=LABELS)
