"""Truth in the lake: the very pixels of the file, for every picture an outcome, and beside what networks say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from handmade import rectangle

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.lake import Snapshot
from etl.lake.ids import digest
from etl.lake.ledger import read_ledger
from etl.lake.maintenance.collect import candidates
from etl.stages.ground import instance_key
from etl.stages.masks import Rle, decode
from etl.truth.landing import land_truth
from etl.truth.listing import list_truths

SIZE, UPRIGHT = (64, 48), (48, 64)
DOG_BOX, BALL_BOX = (10, 12, 30, 40), (40, 5, 60, 25)


@pytest.fixture(scope="module")
def query(template):
    """Rows of some SQL over the views; one look at the lake for all tests here."""
    with Snapshot.take(template.lake).connect() as connection:
        yield lambda sql: connection.execute(sql).to_arrow_table().to_pylist()


@pytest.fixture(scope="module")
def states(template, query):
    """Status, or status and reason, of every picture by its number, by stage."""
    found: dict[str, dict[int, str]] = {}
    for row in query("select image_id, stage, status, reason from all_outcomes"):
        of_stage, number = found.setdefault(row["stage"], {}), template.ids.index(row["image_id"])
        assert number not in of_stage, "an image has two outcomes of one stage"
        of_stage[number] = "/".join(filter(None, (row["status"], row["reason"])))
    return found


class TestOutcomes:
    @pytest.mark.parametrize(
        ("stage", "of_good_ones"),
        [
            ("tag", {0: "ok", 1: "ok", 2: "ok", 3: "empty/no_tags", 7: "ok", 8: "empty/no_tags"}),
            ("ground", {0: "ok", 1: "ok", 2: "ok", 3: "empty/no_boxes", 7: "empty/no_boxes", 8: "empty/no_boxes"}),
            ("caption", {0: "ok", 3: "ok"} | dict.fromkeys((1, 2, 7, 8), "empty/no_captions")),
        ],
    )
    def test_every_picture_of_the_file_has_one_of_every_stage(self, states, stage, of_good_ones):
        bad = {4: "failed/size_differs", 5: "failed/bad_mask", 9: "failed/truth_differs"}

        assert states[stage] == of_good_ones | bad

    def test_what_failed_says_why_in_words(self, template, query):
        rows = query("select image_id, error from all_outcomes where stage = 'tag' and error is not null")
        words = {template.ids.index(row["image_id"]): row["error"] for row in rows}

        assert words == {
            4: "image 4 has 64x48 pixels in the file, 48x64 in the lake (upright)",
            5: "annotation 5: a mask of 48x64 pixels, of an image of 64x48",
            9: "image 9 and image 21 are one picture, of which they differ",
        }

    def test_the_counts_add_up_to_the_pictures_and_the_images_of_the_file(self, template):
        found = template.landed.matches

        assert (found.found, found.absent, found.taken_down) == (11, 1, 0)
        assert (found.pictures, found.without_truth) == (9, 1)
        assert len(template.truth.images) == found.found + found.absent + found.taken_down
        for stage in template.landed.stages:
            assert stage.ok + stage.empty + stage.failed == found.pictures == stage.new
            assert stage.pending == 0

    def test_the_image_itself_is_what_an_outcome_was_made_from(self, query):
        rows = query("select image_id, input_digest, retryable from all_outcomes")

        assert all(row["image_id"] == row["input_digest"] and not row["retryable"] for row in rows)


class TestRows:
    def test_masks_are_those_of_the_upright_picture_to_the_pixel(self, template, query):
        wanted = [(0, "dog", SIZE, DOG_BOX), (0, "ball", SIZE, BALL_BOX), (1, "dog", UPRIGHT, DOG_BOX)]
        rows = query("select * from all_instances")
        for number, label, size, box in wanted:
            (row,) = (one for one in rows if (one["image_id"], one["label"]) == (template.ids[number], label))
            assert (row["x1"], row["y1"], row["x2"], row["y2"]) == box
            rle = Rle(row["mask_counts"], row["mask_height"], row["mask_width"], row["mask_area"])
            assert np.array_equal(decode(rle), rectangle(size, box))
            assert (row["score"], row["predicted_iou"], row["area"]) == (1.0, 1.0, row["mask_area"])

    def test_a_box_without_a_mask_has_one_of_no_pixel_and_is_rated_so(self, template, query):
        (row,) = query(f"select * from all_instances where image_id = '{template.ids[2]}'")

        assert (row["x1"], row["y1"], row["x2"], row["y2"]) == DOG_BOX
        assert (row["mask_area"], row["mask_width"], row["mask_height"], row["predicted_iou"]) == (0, *SIZE, 0.0)

    def test_an_object_has_the_id_that_a_network_would_give_it(self, query):
        for row in query("select * from all_instances"):
            box = [row[edge] for edge in ("x1", "y1", "x2", "y2")]
            rle = Rle(row["mask_counts"], row["mask_height"], row["mask_width"], row["mask_area"])
            key = instance_key(row["image_id"], row["label"], box, rle)
            assert row["instance_id"] == digest(key, 0)

    def test_tags_are_sure_and_in_order(self, template, query):
        rows = query("select image_id, tags from all_tags")
        found = {template.ids.index(row["image_id"]): row["tags"] for row in rows}

        assert {number: [one["tag"] for one in tags] for number, tags in found.items()} == {
            0: ["ball", "dog"],
            1: ["dog"],
            2: ["dog"],
            7: ["ball", "green"],
        }
        assert all(one["score"] == 1.0 for tags in found.values() for one in tags)

    def test_captions_are_of_the_picture_or_of_an_object_whose_phrase_they_are(self, template, query):
        rows = query(
            "select c.image_id, i.label, i.phrase, c.caption, c.flag, c.score from all_captions c "
            "left join all_instances i using (instance_id)",
        )
        found = {(template.ids.index(r["image_id"]), r["label"], r["phrase"], r["caption"]) for r in rows}

        assert found == {
            (0, None, None, "a dog and a ball"),
            (0, "dog", "a brown dog", "a brown dog"),
            (3, None, None, "nothing"),
        }
        assert all(row["flag"] is None and row["score"] is None for row in rows)


class TestBesideNetworks:
    def test_a_dataset_is_an_annotator_of_its_own_kind_per_stage(self, template, query):
        rows = query("select * from annotators order by stage")

        assert [row["stage"] for row in rows] == ["caption", "ground", "tag"]
        for row in rows:
            record = {"kind": "dataset", "name": "made", "stage": row["stage"], "sha256": template.truth.sha256}
            assert json.loads(row["record"]) == record
            assert row["annotator_id"] == digest(record)
            assert (row["kind"], row["model"], row["untrained"]) == ("dataset", "made", False)

    def test_it_is_never_current_by_itself_and_no_plain_view_shows_it(self, query):
        views = ("current", "tags", "instances", "captions", "outcomes", "runs")
        counts = ", ".join(f"(select count(*) from {view}) as {view}" for view in views)

        assert query(f"select {counts}") == [dict.fromkeys(views, 0)]

    def test_planning_and_status_see_everything_as_still_to_be_done(self, template):
        (source,) = read_ledger(Snapshot.take(template.lake))

        assert source.images == 10
        assert all((stage.pending, stage.annotator_id) == (10, None) for stage in source.stages)

    def test_gc_keeps_it(self, template):
        assert {(one.kept, one.fixed) for one in candidates(template.lake)} == {("of kind dataset", True)}

    def test_it_is_listed_with_its_stages_and_what_it_has(self, template):
        (found,) = list_truths(Snapshot.take(template.lake))

        assert (found.name, found.sha256) == ("made", template.truth.sha256)
        assert found.annotators == {one.stage: one.annotator_id for one in template.landed.stages}
        assert list(found.annotators) == ["tag", "ground", "caption"]
        assert (found.images, found.instances, found.current_for) == (9, 4, {})


class TestRefusals:
    def land(self, world, **given):
        return land_truth(world.lake, world.truth, **({"name": "x", "source": "hand", "request": "r"} | given))

    def test_a_source_that_was_never_ingested(self, template):
        with pytest.raises(UnknownNameError, match="unknown source 'no'; known: hand"):
            self.land(template, source="no")

    def test_a_name_that_cannot_be_one(self, template):
        with pytest.raises(ConfigurationError, match="'A b' does not match"):
            self.land(template, name="A b")

    def test_a_file_of_which_the_source_has_no_picture(self, template, web, tags):
        with pytest.raises(DataError, match=r"such as http://web\.test/0; of the source: http://example\.test"):
            land_truth(template.lake, tags, name="x", source="hand", request="r")
