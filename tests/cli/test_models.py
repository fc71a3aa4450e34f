"""``groundlake models``: which models there are, and whose results the views show."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import stand_in_converter
from handmade import Handmade, Picture, annotator_id
from weights_server import WeightsServer

from etl.lake import Lake, Snapshot
from etl.models.store import ModelStore
from etl.settings import load_catalog

NEW = "abcdef" + "0" * 26


@pytest.fixture
def hand(lake: Lake, tmp_path, monkeypatch) -> Handmade:
    monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
    monkeypatch.setenv("GROUNDLAKE_SCRATCH", str(tmp_path / "scratch"))
    return Handmade(lake)


def second_tagger(lake: Lake, images: list[str]) -> None:
    """Another annotator of tags, with outcomes of these images."""
    now = datetime(2026, 5, 1, tzinfo=UTC)
    row = {"annotator_id": NEW, "stage": "tag", "model": "new", "kind": "model", "untrained": False, "record": "{}"}
    lake.append("annotators", [row | {"created_at": now}], "new annotator")
    outcome = {"shard_id": "s", "stage": "tag", "annotator_id": NEW, "unit": "new", "requested_at": now, "status": "ok"}
    outcome |= {"retryable": False, "input_digest": "", "value_digest": "", "seconds": 0.0}
    lake.append("outcomes", [outcome | {"image_id": image} for image in images], "new")


def listed(groundlake, kind: str = "models") -> list[dict]:
    """What ``models list`` says of models, or of weights."""
    return json.loads(groundlake("models", "list", "--json").out)[kind]


def current(lake: Lake) -> str:
    return (
        Snapshot.take(lake).sql("select annotator_id from current where stage = 'tag'").to_pylist()[0]["annotator_id"]
    )


class TestList:
    def test_a_model_that_never_ran_has_no_annotator(self, groundlake, hand):
        rows = listed(groundlake)

        assert {row["stage"] for row in rows if row["default"]} == {"tag", "ground", "caption", "embed"}
        assert all((row["stored"], row["annotator_id"], row["current_for"]) == (False, None, []) for row in rows)

    def test_only_weights_of_upstream_have_to_be_fetched(self, groundlake, hand):
        states = {row["model"]: row["weights"] for row in listed(groundlake)}

        assert states["ram-shapes"] == "at hand"
        assert states["ram-swin-large"] == "to be pulled or added"

    def test_weights_in_the_lake_make_an_annotator(self, groundlake, hand, lake, tmp_path):
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "model.safetensors").write_bytes(b"numbers")
        entry = load_catalog().model("tag")
        ModelStore(lake.store, tmp_path / "cache").add(entry.networks["tagger"], tmp_path / "weights")
        row = next(row for row in listed(groundlake) if row["model"] == "ram-shapes")
        table = groundlake("models", "list").out

        assert row["stored"]
        assert len(row["annotator_id"]) == 32
        assert row["annotator_id"][:12] in table

    def test_random_weights_that_somebody_registered_are_called_untrained(
        self, groundlake, hand, lake, tmp_path, monkeypatch
    ):
        (tmp_path / "catalog" / "models").mkdir(parents=True)
        network = "{tagger: {family: ram, weights: 'file:/random/weights'}}"
        file = tmp_path / "catalog" / "models" / "random.yaml"
        file.write_text(f"stage: tag\nuntrained: true\nnetworks: {network}\n")
        monkeypatch.setenv("GROUNDLAKE_CATALOG", str(tmp_path / "catalog"))
        untrained = {row["model"] for row in listed(groundlake) if row["untrained"]}

        assert untrained == {"random"}
        assert groundlake("models", "list").out.count("UNTRAINED, at hand") == 1

    def test_it_names_the_sources_whose_views_show_the_model(self, groundlake, hand, lake, tmp_path):
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "x").write_bytes(b"numbers")
        entry = load_catalog().model("tag")
        ModelStore(lake.store, tmp_path / "cache").add(entry.networks["tagger"], tmp_path / "weights")
        find = lambda: next(row for row in listed(groundlake) if row["model"] == "ram-shapes")  # noqa: E731
        row = {"stage": "tag", "annotator_id": find()["annotator_id"], "promoted_at": datetime.now(UTC), "reason": "x"}
        lake.append("current", [row | {"source": source} for source in ("b", "a")], "promotion")

        assert find()["current_for"] == ["a", "b"]

    def test_it_tells_what_is_known_of_upstreams_weights(self, groundlake, hand):
        found = {row["weights"]: row for row in listed(groundlake, "weights")}

        assert {row["digest"] for row in found.values()} == {None}
        assert (found["ram-swin-large-14m"]["sha256"], found["ram-swin-large-14m"]["bytes"]) == ("pinned", 5625698797)
        assert (found["sam-vit-h"]["sha256"], found["sam-vit-h"]["bytes"]) == ("recorded when added", None)
        assert found["groundingdino-swint-ogc"]["sha256"] == "1 of 4 pinned, others recorded when added"
        assert "non-commercial" in found["blip2-opt-2.7b"]["licence"]  # OPT's own, beside BLIP-2's


class TestWeights:
    """One checkpoint, published on loopback, from the web or a folder into the lake."""

    @pytest.fixture
    def server(self, hand, tmp_path, monkeypatch):
        stand_in_converter.install(monkeypatch)
        with WeightsServer() as running:
            running.publish("/sam.pth", b"numbers" * 10_000)
            folder = tmp_path / "catalog" / "weights"
            folder.mkdir(parents=True)
            fields = "family: sam\nlicence: CC-BY-4.0\nallow_http: true\nallow_private_addresses: true\n"
            (folder / "mine.yaml").write_text(f"{fields}files: [{{name: sam.pth, url: '{running.url('/sam.pth')}'}}]\n")
            monkeypatch.setenv("GROUNDLAKE_CATALOG", str(tmp_path / "catalog"))
            yield running

    @pytest.fixture
    def given(self, tmp_path):
        (tmp_path / "sam.pth").write_bytes(b"numbers" * 10_000)
        return tmp_path / "sam.pth"

    def row(self, groundlake) -> dict:
        return next(row for row in listed(groundlake, "weights") if row["weights"] == "mine")

    def test_pull_puts_them_into_the_lake_and_says_what_became_of_the_keys(self, groundlake, server):
        ran = groundlake("models", "pull", "mine", "--accept-licence")

        assert ran.code == 0, ran.err
        assert "mine: sam.pth: size unknown, licence CC-BY-4.0" in ran.out
        assert "mine: 1 keys renamed, 2 dropped; 2: not needed" in ran.out
        assert "sam.pth: sha256 " in ran.out
        assert "recorded, enforced from now on" in ran.out
        assert "mine: in the lake, 35 kB" in ran.out
        assert self.row(groundlake)["digest"][:12] in groundlake("models", "list").out
        assert self.row(groundlake)["sha256"] == "recorded"

    def test_what_is_there_is_left_alone_unless_told_otherwise(self, groundlake, server):
        groundlake("models", "pull", "mine", "--accept-licence")
        asked = len(server.asked)
        ran = groundlake("models", "pull", "mine")

        assert (ran.code, len(server.asked)) == (0, asked)
        assert "mine: in the lake already" in ran.out
        assert groundlake("models", "pull", "mine", "--again", "--accept-licence").code == 0
        assert len(server.asked) > asked

    def test_a_licence_that_nobody_accepts_stops_before_the_download(self, groundlake, server, monkeypatch):
        alone = groundlake("models", "pull", "mine")
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("typer.confirm", lambda _: False)
        asked = groundlake("models", "pull", "mine")

        assert (alone.code, asked.code, server.asked) == (78, 78, [])
        assert "LicenceError" in alone.err
        assert "--accept-licence" in alone.err
        assert "the licences were not accepted" in asked.err

    def test_add_needs_no_network(self, groundlake, server, given):
        ran = groundlake("models", "add", "mine", given)

        assert ran.code == 0, ran.err
        assert "mine: licence CC-BY-4.0" in ran.out
        assert "mine: in the lake, 35 kB" in ran.out
        assert server.asked == []

    def test_unknown_weights_are_refused(self, groundlake, server, given):
        for command in (("pull", "none"), ("add", "none", given), ("verify", "none")):
            ran = groundlake("models", *command)
            assert ran.code == 78
            assert "unknown weights 'none'; known: " in ran.err

    def test_verify_finds_what_was_changed_and_the_same_file_mends_it(self, groundlake, server, given, lake):
        groundlake("models", "add", "mine", given)
        path = next((lake.store.root / "models" / "sam").rglob("model.safetensors"))
        before = groundlake("models", "verify")
        path.write_bytes(b"other")
        after = groundlake("models", "verify", "mine")

        assert (before.code, after.code) == (0, 65)
        assert "catalog:mine: as it was added" in before.out
        assert "catalog:mine: model.safetensors was changed" in after.out
        assert "groundlake models add NAME" in after.err
        groundlake("models", "add", "mine", given)
        assert groundlake("models", "verify").code == 0

    def test_verify_of_what_is_absent_says_how_to_get_it(self, groundlake, server):
        ran = groundlake("models", "verify", "mine")

        assert ran.code == 78
        assert "groundlake models pull mine" in ran.err

    def test_a_model_without_its_weights_says_how_to_get_them(self, groundlake, server, lake, tmp_path):
        (tmp_path / "catalog" / "models").mkdir()
        detector = "{family: groundingdino, weights: 'catalog:groundingdino-swint-ogc'}"
        networks = f"{{detector: {detector}, segmenter: {{family: sam, weights: 'catalog:mine'}}}}"
        (tmp_path / "catalog" / "models" / "mine.yaml").write_text(f"stage: ground\nnetworks: {networks}\n")
        row = next(row for row in listed(groundlake) if row["model"] == "mine")

        assert (row["stored"], row["annotator_id"]) == (False, None)


class TestPromote:
    @pytest.fixture
    def annotated(self, hand: Handmade) -> Handmade:
        pictures = [Picture(seed=n) for n in range(3)]
        hand.annotate(hand.add(*pictures), *pictures)
        return hand

    def promote(self, groundlake, annotator: str = NEW[:6], source: str = "hand", *more: str):
        return groundlake("models", "promote", "tag", "--source", source, "--annotator", annotator, *more)

    def test_it_prints_coverage_and_changes_what_views_show(self, groundlake, annotated, lake):
        second_tagger(lake, annotated.ids)
        ran = self.promote(groundlake)

        assert ran.code == 0, ran.err
        assert "hand: 3 images" in ran.out
        assert f"tag now: {annotator_id('tag')[:12]} has outcomes of 3 images, 0 of them failed" in ran.out
        assert f"tag then: {NEW[:12]} has outcomes of 3 images, 0 of them failed" in ran.out
        assert current(lake) == NEW

    def test_promoting_back_shows_the_old_results_again(self, groundlake, annotated, lake):
        second_tagger(lake, annotated.ids)
        self.promote(groundlake)
        self.promote(groundlake, annotator_id("tag"))

        assert current(lake) == annotator_id("tag")

    def test_losing_images_from_the_views_needs_yes(self, groundlake, annotated, lake):
        second_tagger(lake, annotated.ids[:1])
        refused = self.promote(groundlake)

        assert refused.code == 78
        assert "2 of 3 images of hand would show no tag outcome at all" in refused.err
        assert current(lake) == annotator_id("tag")
        assert self.promote(groundlake, NEW[:6], "hand", "--yes").code == 0
        assert current(lake) == NEW

    def test_the_current_one_is_left_alone(self, groundlake, annotated, lake):
        ran = self.promote(groundlake, annotator_id("tag"))

        assert ran.code == 0
        assert "is the current tag annotator of hand already" in ran.out
        assert len(lake.table("current").to_pyarrow_table().filter(_is_tag())) == 1

    @pytest.mark.parametrize(
        ("annotator", "source", "words"),
        [("zz", "hand", "unknown tag annotator 'zz'"), ("", "hand", "(ambiguous)"), (NEW, "no", "unknown source 'no'")],
    )
    def test_unknown_names_are_refused(self, groundlake, annotated, lake, annotator, source, words):
        second_tagger(lake, annotated.ids)
        ran = self.promote(groundlake, annotator, source)

        assert ran.code == 78
        assert words in ran.err


def _is_tag():
    import pyarrow.compute as pc

    return pc.field("stage") == "tag"
