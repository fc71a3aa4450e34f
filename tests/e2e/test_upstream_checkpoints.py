"""From upstream's own checkpoint files to annotations, by the commands that a person types.

The networks are small and their weights random: what is checked is that every part of the way fits the next, for
pictures of any shape, and that nothing about how the work was cut up, interrupted or repeated shows in the rows.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from odd_pictures import ODD
from upstream_world import (
    BOXES,
    DTYPES,
    LIMITS,
    MODELS,
    OFF,
    WEIGHTS,
    Ran,
    command,
    make_lake,
    model_arguments,
    place,
    raw,
    shown,
    write_catalog,
    write_files,
)

from etl.lake import Lake
from etl.lake.ids import digest_bytes
from etl.lake.texts import caption_for_embedding
from etl.models.store import ModelStore
from etl.settings import Network
from etl.settings.catalog import STAGES
from etl.stages import orders
from etl.stages.masks import Rle, decode

pytestmark = [pytest.mark.reference, pytest.mark.timeout(300)]
CHAINS = (("ram", "hq", "blip2", "clip"), ("ram-plus", "plain", "tag2text", "clip-half"))
WIDTH = 16  # of CLIP's vectors
TABLES = ("tags", "instances", "captions", "embeddings")


@dataclass(frozen=True)
class World:
    """What the commands said, and the lake they left."""

    lake: Lake
    given: dict[str, Path]
    place: tuple[Path, Path, Path]
    added: dict[str, Ran]
    ran: dict[tuple[str, ...], Ran]
    tables: dict[str, list[dict[str, Any]]]

    def annotators(self, chain: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """The annotators of a chain of models, by model."""
        return {row["model"]: row for row in self.tables["annotators"] if row["model"] in chain}

    def rows(self, table: str, chain: tuple[str, ...]) -> list[dict[str, Any]]:
        """The rows that a chain of models made."""
        ids = {row["annotator_id"] for row in self.annotators(chain).values()}
        return [row for row in self.tables[table] if row["annotator_id"] in ids]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("upstream")
    given = write_files(root / "given")
    lake = make_lake(root / "lake", None, ODD[:7], ODD[7:])
    here = (root / "lake", write_catalog(root / "catalog", given, batch_size=1), root / "scratch")
    with place(*here, slice_size=12):
        added = {name: command("models", "add", name, folder) for name, folder in given.items()}
        ran = {chain: command("annotate", "run", "--source", "hand", *model_arguments(*chain)) for chain in CHAINS}
    tables = {table: raw(lake, table) for table in (*TABLES, "annotators", "images", "outcomes")}
    return World(lake, given, here, added, ran, tables)


def test_every_checkpoint_is_taken_and_every_key_of_it_named(world: World):
    for name, ran in world.added.items():
        assert ran.code == 0, ran.err
        assert f"{name}: in the lake" in ran.out
        stored = ModelStore(world.lake.store, Path("unused")).stored(network(name))
        assert stored is not None
        report = world.lake.store.read_json(f"models/{WEIGHTS[name]}/{stored.digest}.report.json")
        assert (report["missing"], report["unexpected"]) == ([], [])
        assert set(stored.sources) == {path.name for path in world.given[name].iterdir()}
    kinds = {Path(found.key).suffix for found in world.lake.store.list("models/")}
    assert kinds == {".json", ".safetensors", ".txt"}, "no pickle comes into a lake"


def test_list_and_verify_know_them(world: World):
    with place(*world.place):
        listed = json.loads(command("models", "list", "--json").out)
        verified = command("models", "verify")
    states = {row["weights"]: row["sha256"] for row in listed["weights"] if row["digest"]}
    assert states == dict.fromkeys(WEIGHTS, "recorded")
    ids = {row["model"]: row["annotator_id"] for row in listed["models"] if row["model"] in MODELS}
    assert all(ids[name] == row["annotator_id"] for chain in CHAINS for name, row in world.annotators(chain).items())
    assert verified.code == 0, verified.err
    assert "8 weights are as they were added" in verified.out


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_every_picture_has_one_outcome_of_every_stage_and_none_failed(world: World, chain: tuple[str, ...]):
    assert world.ran[chain].code == 0, world.ran[chain].err
    outcomes = world.rows("outcomes", chain)
    images = {row["image_id"] for row in world.tables["images"]}
    assert len(images) == len(ODD)
    for stage, table in zip(STAGES, TABLES, strict=True):
        own = [row for row in outcomes if row["stage"] == stage]
        assert Counter(row["image_id"] for row in own) == dict.fromkeys(images, 1)
        assert {row["status"] for row in own} <= {"ok", "empty"}, [row["error"] for row in own]
        if stage != "embed":  # pictures share the vectors of texts
            made = {row["image_id"] for row in world.rows(table, chain)}
            assert made == {row["image_id"] for row in own if row["status"] == "ok"}
    assert sum(row["status"] == "ok" for row in outcomes if row["stage"] == "ground") > 5


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_annotators_name_the_weights_and_the_settings(world: World, chain: tuple[str, ...]):
    store = ModelStore(world.lake.store, Path("unused"))
    for name, row in world.annotators(chain).items():
        stage, networks, options = MODELS[name]
        record = json.loads(row["record"])
        assert (record["stage"], record["dtype"], row["untrained"]) == (stage, DTYPES.get(name, "float32"), True)
        assert {role: one["weights_sha256"] for role, one in record["networks"].items()} == {
            role: store.weights_digest(network(one)) for role, one in networks.items()
        }
        assert record["options"].items() >= options.items()


def test_tags_are_those_above_upstreams_thresholds(world: World):
    rows = world.rows("tags", CHAINS[0])
    assert max(len(row["tags"]) for row in rows) > 30, "more than one prompt of the detector holds"
    for row in rows:
        assert all(tag["score"] > LIMITS[tag["tag"]] for tag in row["tags"])
        assert OFF not in {tag["tag"] for tag in row["tags"]}


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_boxes_lie_in_their_picture_and_masks_have_its_size(world: World, chain: tuple[str, ...]):
    sizes = {row["image_id"]: (row["width"], row["height"]) for row in world.tables["images"]}
    tags = {row["image_id"]: {tag["tag"] for tag in row["tags"]} for row in world.rows("tags", chain)}
    rows = world.rows("instances", chain)
    assert len({row["label"] for row in rows}) > 3
    assert 3 < max(Counter(row["image_id"] for row in rows).values()) <= BOXES["max_boxes"]
    for row in rows:
        width, height = sizes[row["image_id"]]
        assert 0 <= row["x1"] <= row["x2"] - 1 < width
        assert 0 <= row["y1"] <= row["y2"] - 1 < height
        assert row["label"] in tags[row["image_id"]]
        mask = decode(Rle(row["mask_counts"], row["mask_height"], row["mask_width"], row["mask_area"]))
        assert mask.shape == (height, width)
        assert mask.sum() == row["mask_area"]


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_every_instance_and_picture_has_a_caption_and_every_text_a_vector(world: World, chain: tuple[str, ...]):
    captions = world.rows("captions", chain)
    labels = {row["instance_id"]: row["label"] for row in world.rows("instances", chain)}
    wanted = Counter({row["image_id"]: 1 for row in world.tables["images"]})
    wanted.update(row["image_id"] for row in world.rows("instances", chain))
    assert Counter(row["image_id"] for row in captions) == wanted
    assert Counter(row["instance_id"] for row in captions if row["instance_id"]) == dict.fromkeys(labels, 1)
    assert len({row["caption"] for row in captions}) > 10
    texts = set(labels.values())
    for row in captions:
        label = labels.get(row["instance_id"])
        texts |= {row["caption"], *([caption_for_embedding(label, row["caption"])] if label and row["caption"] else [])}
    vectors = {row["text_sha256"]: row["vector"] for row in world.rows("embeddings", chain)}
    assert {digest_bytes(text.encode()) for text in texts if text} == vectors.keys()
    assert {len(vector) for vector in vectors.values()} == {WIDTH}


def test_the_same_again_has_nothing_to_do(world: World):
    with place(*world.place):
        ran = command("annotate", "run", "--source", "hand", *model_arguments(*CHAINS[1]))
    assert (ran.code, "nothing to do: all 12 images have fresh outcomes" in ran.out) == (0, True)


def network(name: str) -> Network:
    return Network(family=WEIGHTS[name], weights=f"catalog:{name}")


class TestDisturbed:
    """The same pictures and networks, worked otherwise: the same rows."""

    @pytest.fixture(scope="class")
    def expected(self, world: World) -> dict[str, list[dict[str, Any]]]:
        """What the views show where nothing happened: a picture at a time, the two shards one after the other."""
        ids = {row["annotator_id"] for row in world.annotators(CHAINS[0]).values()}
        return {table: [row for row in shown(world.lake, table) if row["annotator_id"] in ids] for table in TABLES}

    def assert_equal(self, lake: Lake, expected: dict[str, list[dict[str, Any]]]) -> None:
        for table, rows in expected.items():
            found = shown(lake, table)
            assert found == rows, f"{table}: {sum(a != b for a, b in zip(found, rows, strict=False))} rows differ"
        assert {len(rows) > 10 for rows in expected.values()} == {True}

    def test_in_other_batches_slices_and_shards_killed_and_then_finished_by_two_at_once(
        self, world: World, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        lake = make_lake(tmp_path / "lake", Path(world.lake.uri) / "models", ODD[8:2:-1], (*ODD[9:], *ODD[:3]))
        catalog = write_catalog(tmp_path / "catalog", world.given, batch_size=5)
        arguments = ("annotate", "run", "--source", "hand", *model_arguments(*CHAINS[0]))
        with place(tmp_path / "lake", catalog, tmp_path / "scratch", slice_size=3):
            kill_at_slice(lake, 3, arguments)  # tags are there; boxes and masks of some pictures are
            real, twins = orders.finish_slice, []

            def twin_meanwhile(*given: Any) -> Any:
                if not twins:
                    twins.append(None)
                    twins[0] = command(*arguments)
                return real(*given)

            monkeypatch.setattr(orders, "finish_slice", twin_meanwhile)
            ran = command(*arguments)
        assert (ran.code, twins[0].code) == (0, 0), ran.err
        assert "going on with" in twins[0].out
        self.assert_equal(lake, expected)
        visible = Counter((row["image_id"], row["annotator_id"]) for row in shown(lake, "outcomes"))
        assert set(visible.values()) == {1}
        assert len(visible) == len(ODD) * len(STAGES)


def kill_at_slice(lake: Lake, number: int, arguments: tuple[str, ...]) -> None:
    """Run ``groundlake`` in a process of its own and kill it when so many slices are finished."""
    code = "from etl.cli.main import main; main()"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], **quiet)
    deadline = time.monotonic() + 120
    while sum(found.key.count("/") == 2 for found in lake.store.list("units/")) < number:
        assert process.poll() is None, "the process ended too soon"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
