"""``groundlake models``: which models there are, and whose results the views show."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from handmade import Handmade, Picture, annotator_id

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


def current(lake: Lake) -> str:
    return (
        Snapshot.take(lake).sql("select annotator_id from current where stage = 'tag'").to_pylist()[0]["annotator_id"]
    )


class TestList:
    def test_a_model_that_never_ran_has_no_annotator(self, groundlake, hand):
        rows = json.loads(groundlake("models", "list", "--json").out)

        assert {row["stage"] for row in rows if row["default"]} == {"tag", "ground", "caption", "embed"}
        assert all((row["stored"], row["annotator_id"], row["current_for"]) == (False, None, []) for row in rows)

    def test_weights_in_the_lake_make_an_annotator(self, groundlake, hand, lake, tmp_path):
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "model.safetensors").write_bytes(b"numbers")
        entry = load_catalog().model("tag")
        ModelStore(lake.store, tmp_path / "cache").add(entry.networks["tagger"], tmp_path / "weights")
        row = next(row for row in json.loads(groundlake("models", "list", "--json").out) if row["stage"] == "tag")
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
        untrained = {row["model"] for row in json.loads(groundlake("models", "list", "--json").out) if row["untrained"]}

        assert untrained == {"random"}
        assert groundlake("models", "list").out.count("UNTRAINED, not in the lake") == 1

    def test_it_names_the_sources_whose_views_show_the_model(self, groundlake, hand, lake, tmp_path):
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "x").write_bytes(b"numbers")
        entry = load_catalog().model("tag")
        ModelStore(lake.store, tmp_path / "cache").add(entry.networks["tagger"], tmp_path / "weights")
        find = lambda: next(r for r in json.loads(groundlake("models", "list", "--json").out) if r["stage"] == "tag")  # noqa: E731
        row = {"stage": "tag", "annotator_id": find()["annotator_id"], "promoted_at": datetime.now(UTC), "reason": "x"}
        lake.append("current", [row | {"source": source} for source in ("b", "a")], "promotion")

        assert find()["current_for"] == ["a", "b"]


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
