"""The whole chain over pictures: tag, ground, segment, and caption ``CROPS`` crops of each; both ways, in one run."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import engines_tasks as tasks
import torch
from engines_measure import kind_of, seconds, short, source_way

LINKS = {"tag": "ram", "ground": "groundingdino", "segment": "sam-vit-h", "caption": "blip2-opt-2.7b"}
PER_PICTURE = {"tag": 1, "ground": 1, "segment": 1, "caption": tasks.CROPS}


@dataclass(frozen=True)
class Link:
    """One stage of the chain.

    Attributes:
        stage: What it does.
        batch: Items that our engine sees at once.
        ours: Seconds per picture, preprocessing included.
        source: Seconds per picture the source pipelines' way.
        half: One item at a time too, but by our engine in our dtype: what batches alone bring is seen beside it.
    """

    stage: str
    batch: int
    ours: float
    source: float
    half: float


@dataclass(frozen=True)
class Run:
    """How the chain is run.

    Attributes:
        size: Of the networks, real or small.
        device: ``cpu`` or ``cuda:N``.
        dtype: Of our engines.
        compiled: Whether they go through ``torch.compile``.
        images: Pictures that go through them.
        alone: Pictures that go the source pipelines' way.
        repeats: Passes of which the time is taken.
    """

    size: str
    device: str
    dtype: str
    compiled: bool
    images: int
    alone: int
    repeats: int

    def timed(self, stage: str, engine: Any, work: tasks.Work, pictures: int, batch: int) -> float:
        """Seconds per picture of one stage over so many pictures."""
        items = pictures * PER_PICTURE[stage]
        return seconds(partial(_pass, stage, engine, work, items, batch), self.device, self.repeats) / pictures


def chain(run: Run, places: Mapping[str, Path], batches: Mapping[str, int]) -> list[Link]:
    """Seconds per picture of every stage, both ways; the folder and the batch of every network of ``LINKS`` given."""
    work = tasks.work_of(run.size, run.images)
    return [_link(run, stage, places[name], batches[name], work) for stage, name in LINKS.items()]


def _link(run: Run, stage: str, folder: Path, batch: int, work: tasks.Work) -> Link:
    engine = tasks.opened(LINKS[stage], folder, run.device, "float32", attention="eager")
    with source_way(tasks.CROPS):
        source = run.timed(stage, engine, work, run.alone, 1)
    del engine
    free(run.device)
    engine = tasks.opened(LINKS[stage], folder, run.device, run.dtype, compiled=run.compiled)
    half = run.timed(stage, engine, work, run.alone, 1)
    batch = min(batch, run.images * PER_PICTURE[stage])
    ours = run.timed(stage, engine, work, run.images, batch)
    del engine
    free(run.device)
    return Link(stage, batch, ours, source, half)


def free(device: str) -> None:
    """Give back what a network that is no longer there had on the device."""
    gc.collect()
    if kind_of(device) == "cuda":
        torch.cuda.empty_cache()


def _pass(stage: str, engine: Any, work: tasks.Work, items: int, batch: int) -> None:
    """One stage over so many items; a last batch that is not full is filled up by the engine or simply smaller."""
    for start in range(0, items, batch):
        count = min(batch, items - start)
        if stage == "segment":
            tasks.segment(engine, work.part(start, count), count, tasks.CROPS)
        else:
            ask = {"tag": tasks.tag, "ground": tasks.detect, "caption": tasks.caption}[stage]
            ask(engine, work.part(start, count), count)


def table(links: list[Link]) -> str:
    """Markdown: every stage and all together."""
    ours = sum(link.ours for link in links)
    every = Link("**all**", 0, ours, sum(link.source for link in links), sum(link.half for link in links))
    lines = [
        "| stage | batch | ours, ms per image | share | source's way, ms | ratio | one by one in our dtype | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {link.stage} | {link.batch or ''} | {short(link.ours * 1e3)} | {link.ours / ours:.0%} "
        f"| {short(link.source * 1e3)} | {link.source / link.ours:.1f} x "
        f"| {short(link.half * 1e3)} | {link.half / link.ours:.1f} x |"
        for link in [*links, every]
    ]
    return "\n".join(lines)
