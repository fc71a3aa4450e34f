"""``groundlake annotate``: what is stale is computed once, and the command says what became of every image.

The stages are fakes (``tests/fake_stages.py``): this is about the command, not about networks.
"""

from __future__ import annotations

import json
from typing import Any

import fake_stages
import pytest
from handmade import Handmade, Picture

from etl.lake import Lake, Snapshot
from etl.stages import orders

MODELS = ("--model", "tag=fake-tag", "--model", "ground=fake-ground")
RUN = ("annotate", "run", "--stages", "tag,ground", *MODELS)
PLAN = ("annotate", "plan", "--stages", "tag,ground", *MODELS)


@pytest.fixture
def hand(lake: Lake, tmp_path, monkeypatch) -> Handmade:
    """A lake that commands find, with a catalog of fake models."""
    fake_stages.install(monkeypatch)
    monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
    monkeypatch.setenv("GROUNDLAKE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("GROUNDLAKE_SLICE_SIZE", "10")
    monkeypatch.setenv("GROUNDLAKE_DEVICE", "cpu")  # auto would import torch, for seconds
    misbehave(monkeypatch, tmp_path)
    return Handmade(lake)


def misbehave(monkeypatch, tmp_path, **options: Any) -> None:
    catalog = fake_stages.write_catalog(
        tmp_path / "catalog", fake_stages.entry("tag", **options), fake_stages.entry("ground")
    )
    monkeypatch.setenv("GROUNDLAKE_CATALOG", str(catalog))


def outcomes(lake: Lake) -> dict[str, int]:
    with Snapshot.take(lake).connect() as connection:
        return dict(connection.sql("select stage, count(*) from raw.outcomes group by stage").fetchall())


class TestRun:
    def test_it_annotates_everything_and_prints_one_row_per_stage(self, groundlake, hand, lake):
        for number in range(2):
            hand.add(*(Picture(seed=10 * number + n) for n in range(3)))
        ran = groundlake(*RUN)

        assert ran.code == 0, ran.err
        assert outcomes(lake) == {"tag": 6, "ground": 6}
        assert "fake-tag (untrained)" in ran.out
        assert "UNTRAINED: fake-ground, fake-tag have random weights" in ran.err

    def test_a_second_run_says_that_there_is_nothing_to_do(self, groundlake, hand, lake):
        hand.add(Picture(seed=1), Picture(seed=2))
        groundlake(*RUN)
        ran = groundlake(*RUN)

        assert (ran.code, ran.out.strip()) == (0, "nothing to do: all 2 images have fresh outcomes")
        assert outcomes(lake) == {"tag": 2, "ground": 2}

    def test_force_does_it_again(self, groundlake, hand, lake):
        hand.add(Picture(seed=1))
        groundlake(*RUN)

        assert groundlake(*RUN, "--force").code == 0
        assert groundlake(*RUN, "--force").code == 0
        assert outcomes(lake) == {"tag": 3, "ground": 3}

    def test_failures_are_counted_by_reason_and_do_not_fail_the_command(self, groundlake, hand, tmp_path, monkeypatch):
        hand.add(*(Picture(seed=n) for n in range(4)))
        misbehave(monkeypatch, tmp_path, empty=hand.ids[:1], fails=hand.ids[1:2])
        ran = groundlake(*RUN)

        assert ran.code == 0
        assert "1 (1 no_tags)" in ran.out
        assert "1 (1 not_finite)" in ran.out
        assert "1 (1 upstream_failed)" in ran.out

    def test_when_every_image_failed_it_exits_with_65(self, groundlake, hand, tmp_path, monkeypatch):
        hand.add(Picture(seed=1), Picture(seed=2))
        misbehave(monkeypatch, tmp_path, fails=hand.ids)
        ran = groundlake(*RUN)

        assert ran.code == 65
        assert "stage tag: every image failed: 2 failed/not_finite" in ran.err

    def test_an_empty_lake_says_how_to_begin(self, groundlake, hand):
        ran = groundlake(*RUN)

        assert ran.code == 0
        assert "there are no images; next: groundlake ingest run" in ran.out

    def test_a_later_stage_alone_says_what_it_waits_for(self, groundlake, hand):
        hand.add(Picture(seed=1))
        ran = groundlake("annotate", "run", "--stages", "ground", *MODELS)
        again = groundlake("annotate", "run", "--stages", "ground", *MODELS)

        assert "1 images wait for stage tag" in ran.out
        assert "wait for the stages before ground" in again.out

    def test_a_bad_shard_stops_no_other_and_fails_the_command(self, groundlake, hand, lake):
        bad, _ = hand.add(Picture(seed=1)), hand.add(Picture(seed=2))
        tars = {row["shard_id"]: row["tar"] for row in lake.table("images").to_pyarrow_table().to_pylist()}
        lake.store.delete(tars[bad])
        ran = groundlake(*RUN)

        assert ran.code == 65
        assert (
            f"tag of group 0 (hand): stage tag: 1 of 1 orders failed, the others are committed. shard {bad[:12]}"
            in (ran.err)
        )
        assert outcomes(lake) == {"tag": 1, "ground": 1}

    def test_results_of_another_model_than_the_current_one_come_with_the_way_to_show_them(
        self, groundlake, hand, tmp_path
    ):
        hand.add(Picture(seed=1))
        groundlake(*RUN)
        fake_stages.write_catalog(tmp_path / "catalog", fake_stages.entry("tag", "other", word="thing2"))
        ran = groundlake("annotate", "run", "--stages", "tag", "--model", "tag=other")

        assert "another tag annotator is current for hand; to show these: groundlake models promote tag" in ran.out

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--source", "nowhere"], "unknown source 'nowhere'; known: hand"),
            (["--shard", "zz"], "unknown shard 'zz'"),
            (["--stages", "paint"], "unknown stage 'paint'; known: caption, embed, ground, tag"),
            (["--stages", ","], "--stages names no stage"),
            (["--model", "tag=nobody"], "unknown tag model 'nobody'"),
            (["--model", "tag"], "expected STAGE=NAME"),
            (["--device", "tpu"], "unknown device 'tpu'"),
        ],
    )
    def test_a_wrong_option_exits_with_78_and_names_what_is_known(self, groundlake, hand, options, words):
        hand.add(Picture(seed=1))
        ran = groundlake(*RUN, *options)

        assert ran.code == 78
        assert words in ran.err

    def test_an_interrupted_run_is_gone_on_with_by_the_same_command(self, groundlake, hand, lake, monkeypatch):
        hand.add(*(Picture(size=(24, 16), seed=n, format="PNG") for n in range(25)))
        real, calls = orders.finish_slice, []

        def full_disk(lake: Lake, key: str, number: int, *rest: Any) -> Any:
            calls.append(number)
            if calls == [0, 1]:
                raise OSError(28, "No space left on device")
            return real(lake, key, number, *rest)

        monkeypatch.setattr(orders, "finish_slice", full_disk)
        first = groundlake(*RUN)
        hand.add(Picture(seed=99))
        second = groundlake(*RUN)

        assert first.code == 75
        assert second.code == 0
        assert "going on with cli-" in second.out
        assert calls[:4] == [0, 1, 1, 2]
        assert outcomes(lake) == {"tag": 26, "ground": 26}
        assert "nothing to do" in groundlake(*RUN).out


class TestPlan:
    def test_it_counts_what_is_stale_per_stage_and_writes_nothing(self, groundlake, hand, lake):
        shard = hand.add(Picture(seed=1), Picture(seed=2))
        before = [found.key for found in lake.store.list("")]
        plan = json.loads(groundlake(*PLAN, "--json").out)

        assert plan["request"] is None
        (group,) = plan["groups"]
        assert group["models"] == {"tag": "fake-tag", "ground": "fake-ground"}
        common = {"source": "hand", "shard": shard, "images": 2}
        assert group["shards"] == [
            common | {"stage": "tag", "stale": 2, "waiting": 0},
            common | {"stage": "ground", "stale": 0, "waiting": 2},
        ]
        assert [found.key for found in lake.store.list("")] == before

    def test_the_table_tells_the_time_by_measured_throughput(self, groundlake, hand):
        hand.add(Picture(seed=1))
        assert "tag: 1 stale, 0 wait for an earlier stage; not measured yet" in groundlake(*PLAN).out
        groundlake(*RUN)
        hand.add(Picture(seed=2))

        assert "images/s" in groundlake(*PLAN).out

    def test_when_all_is_fresh_it_says_so(self, groundlake, hand):
        hand.add(Picture(seed=1))
        groundlake(*RUN)

        assert groundlake(*PLAN).out.strip() == "nothing to do: all 1 images have fresh outcomes"
        assert json.loads(groundlake(*PLAN, "--json").out)["groups"] == []

    def test_a_named_plan_is_kept_for_stage_run(self, groundlake, hand):
        hand.add(Picture(seed=1))
        ran = groundlake(*PLAN, "--request", "mine")
        command = next(line for line in ran.out.splitlines() if "stage run tag" in line).split()[1:]

        assert groundlake(*command).code == 0
