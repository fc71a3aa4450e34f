"""One stage over one group when something breaks: an image, the memory, the place.

The stages are fakes (``tests/fake_stages.py``); orders, slices, tars, commits and views are the real ones.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from handmade import Picture
from stage_desk import Broken

from etl.errors import RetryableError
from etl.stages.failures import DeviceError, FailureRateError, OutOfMemoryError


class TestOneBadImage:
    def test_bytes_that_do_not_decode_cost_one_outcome(self, desk, hand):
        hand.add(Picture(seed=1), Broken(seed=2), Picture(seed=3))
        summary = desk.run()

        assert summary.counts == {"failed/decode": 1, "ok": 2}
        assert desk.outcomes()[hand.ids[1]] == ("failed", "decode")

    def test_bytes_that_changed_since_ingest_are_not_annotated(self, desk, hand, lake):
        shard = hand.add(*(Picture(seed=n) for n in range(3)))
        row = next(r for r in desk.raw("images") if r["image_id"] == hand.ids[1])
        tar = bytearray(lake.store.read(row["tar"]))
        tar[row["offset"] + row["length"] - 1] ^= 1
        lake.store.put(row["tar"], bytes(tar))
        desk.run(shards=[shard])

        assert desk.outcomes()[hand.ids[1]] == ("failed", "bytes_changed")
        assert Counter(desk.outcomes().values())[("ok", None)] == 2

    def test_a_tar_cut_short_costs_the_pictures_behind_the_cut(self, desk, hand, lake):
        hand.add(*(Picture(seed=n) for n in range(3)))
        rows = {row["image_id"]: row for row in desk.raw("images")}
        last = rows[hand.ids[2]]
        lake.store.put(last["tar"], lake.store.read(last["tar"])[: last["offset"] + 10])

        assert desk.run().counts == {"failed/bytes_changed": 1, "ok": 2}

    def test_an_image_that_raises_fails_alone(self, desk, many):
        desk.misbehave(raises=many[:2])
        summary = desk.run()

        assert summary.counts == {"failed/error": 2, "ok": 23}
        row = next(row for row in desk.raw("outcomes") if row["image_id"] == many[0])
        assert (row["error"], row["retryable"]) == ("ValueError: this picture is too much", True)

    def test_rows_that_break_a_constraint_fail_their_image_alone(self, desk, many):
        desk.misbehave(breaks_constraint=many[3:5])
        summary = desk.run()

        assert summary.counts == {"failed/constraint": 2, "ok": 23}
        assert {row["image_id"] for row in desk.raw("tags")} == set(many) - set(many[3:5])
        row = next(row for row in desk.raw("outcomes") if row["image_id"] == many[3])
        assert row["error"].startswith("table 'tags': ConstraintError: ")

    def test_a_box_outside_its_image_fails_its_image_alone(self, desk, many):
        desk.misbehave("ground", breaks_constraint=many[:1])
        desk.run()
        summary = desk.run("ground")

        assert summary.counts == {"failed/constraint": 1, "ok": 24}
        assert many[0] not in {row["image_id"] for row in desk.raw("instances")}

    def test_a_value_without_digest_fails_its_image_alone(self, desk, many):
        desk.misbehave(not_json=many[:1])

        assert desk.run().counts == {"failed/constraint": 1, "ok": 24}


class TestMemory:
    def test_out_of_memory_halves_the_batch_and_the_slice_starts_again(self, desk, many, fakes):
        desk.misbehave(batch_size=8, memory=2)
        summary = desk.run()

        assert summary.counts == {"ok": 25}
        assert [len(batch) for batch in fakes.FakeTag.seen[:3]] == [8, 4, 2]
        assert max(len(batch) for batch in fakes.FakeTag.seen[2:]) == 2
        assert sum(len(batch) for batch in fakes.FakeTag.seen[2:]) == 25

    def test_one_image_that_does_not_fit_is_the_place_not_the_image(self, desk, many):
        desk.misbehave(memory=0)

        with pytest.raises(OutOfMemoryError, match="one image does not fit"):
            desk.run()
        assert desk.raw("outcomes") == []

    @pytest.mark.parametrize("text", ["CUDA out of memory. Tried to allocate", "can't allocate memory: you tried"])
    def test_torchs_words_for_it_are_known(self, desk, many, text):
        desk.misbehave(batch_size=2, memory=1, error=text)

        assert desk.run().counts == {"ok": 25}


class TestThePlaceFails:
    def test_a_device_failure_stops_the_task_and_writes_nothing(self, desk, hand, fakes):
        hand.add(Picture(seed=1))
        desk.misbehave(memory=0, error="CUDA error: an illegal memory access was encountered")

        with pytest.raises(DeviceError):
            desk.run()
        assert desk.raw("outcomes") == []

    def test_an_operating_system_error_of_the_stage_is_retryable(self, desk, hand, fakes, monkeypatch):
        def no_space(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        hand.add(Picture(seed=1))
        monkeypatch.setattr(fakes.FakeTag, "process", no_space)

        with pytest.raises(RetryableError, match="No space left"):
            desk.run()
        assert desk.raw("outcomes") == []

    def test_scratch_is_empty_afterwards(self, desk, many, settings):
        desk.misbehave(memory=0)
        with pytest.raises(OutOfMemoryError):
            desk.run()

        assert list(settings.scratch.glob("stage-*")) == []

    def test_a_stage_that_fails_on_most_images_is_stopped_loudly(self, desk, hand, monkeypatch, settings):
        hand.add(*(Picture(seed=n) for n in range(20)))
        desk.lake.settings = settings.model_copy(update={"slice_size": 20})
        desk.misbehave(raises=hand.ids[:11])

        with pytest.raises(FailureRateError, match="11 of 20 images of a slice raised errors"):
            desk.run()
        assert desk.raw("outcomes") == []

    def test_half_of_the_images_may_fail(self, desk, hand, settings):
        hand.add(*(Picture(seed=n) for n in range(20)))
        desk.lake.settings = settings.model_copy(update={"slice_size": 20})
        desk.misbehave(raises=hand.ids[:10])

        assert desk.run().counts == {"failed/error": 10, "ok": 10}
