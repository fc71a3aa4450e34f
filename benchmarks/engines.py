"""How fast the engines are: ``.venv/bin/python benchmarks/engines.py`` (small networks, CPU), or ``--device cuda``.

Every network has random weights in a folder as the converters write it, is opened by its loader, and answers through
the calls that stages make. Each is compared with two things of the same run: the speed of a large matrix product in the
same precision, and the source pipelines' way: float32, plain attention, one picture or crop at a time. Last comes the
whole chain: tag, ground, segment, and the captions of five crops per picture.

A fresh folder for the real sizes takes 18 GB (``--folder`` keeps it); BLIP-2 in float32 takes 15 GB of the device.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import engines_chain as chains
import engines_folders as folders
import engines_tasks as tasks
import torch
from engines_measure import flops, kind_of, matmul_rate, seconds, short, source_way

from etl.stages.device import device_name, resolve_device

LADDER = {"cpu": [1, 8], "cuda": [1, 4, 16, 64]}
CHAIN_IMAGES = {"real": 64, "small": 8}
NETWORKS = {
    "real": list(folders.VARIANTS),
    "small": [name for name in folders.VARIANTS if name[-5:] not in ("vit-l", "vit-b")],
}
AIMS = {"encoder": 0.60, "chain": 20.0}  # of SAM ViT-H, and of the chain at real size on an H200
ROWS = ("", "encoder", f"decoder, {tasks.BOXES} boxes")
Calls = Callable[[Any, tasks.Work, int], Callable[[], object]]


@dataclass(frozen=True)
class Step:
    """One batch size: seconds of the network alone, and with preprocessing (None for a part of a network)."""

    batch: int
    network: float
    whole: float | None


@dataclass(frozen=True)
class Row:
    """What was measured of a network or a part of it.

    Attributes:
        name: The network.
        part: Of SAM: encoder or decoder; else empty.
        item: What is counted.
        precision: Of the matrix products.
        gflop: Per item.
        limit: Items per second at the measured speed of matrix products.
        steps: Every batch size that fits.
        best: The batch with most items per second, preprocessing included.
        source: Seconds of one item the source pipelines' way, preprocessing included where ``Step.whole`` is.
        decoding: Share of a caption's time that its tokens after the first take, or None.
    """

    name: str
    part: str
    item: str
    precision: str
    gflop: float
    limit: float
    steps: list[Step]
    best: Step
    source: float
    decoding: float | None

    @property
    def rate(self) -> float:
        """Items per second of the network alone."""
        return self.best.batch / self.best.network

    @property
    def share(self) -> float:
        """Of what the measured speed of matrix products allows."""
        return self.rate / self.limit

    @property
    def ratio(self) -> float:
        """How many times as fast as the source pipelines' way."""
        return self.source * self.best.batch / (self.best.whole or self.best.network)

    @property
    def preparing(self) -> float:
        """Share of the time that goes by beside the network: preprocessing."""
        return max(0.0, 1 - self.best.network / self.best.whole) if self.best.whole else 0.0


class Bench:
    """One run: a device, a size, and the speed of matrix products there."""

    def __init__(self, options: argparse.Namespace, root: Path) -> None:
        self.device, self.size, self.dtype = options.device, options.size, options.dtype
        self.options, self.root = options, root
        self.ladder = options.batch or LADDER[kind_of(self.device)]
        precisions = ["float32", "bfloat16", *(["tf32"] if kind_of(self.device) == "cuda" else [])]
        self.rates = {precision: matmul_rate(self.device, precision) for precision in precisions}

    def precision(self, name: str, part: str) -> str:
        """What the products of a network are computed in."""
        if part.startswith("decoder") or self.dtype == "float32":
            return "float32"
        if name == "groundingdino":  # float32 with TF32 products, where the device has them
            return "tf32" if "tf32" in self.rates else "float32"
        return str(self.dtype)

    def rows(self, name: str) -> list[Row]:
        """The figures of one network, and of the parts of SAM."""
        folder = folders.folder_of(name, self.size, self.root)
        calls = calls_of(name)
        work = tasks.work_of(self.size, max(self.ladder))
        engine = tasks.opened(name, folder, self.device, "float32", attention="eager")
        with source_way(tasks.BOXES):
            count = {part: flops(call(engine, work, 1)) for part, call in calls.items()}
            alone = {part: self._seconds(call(engine, work, 1)) for part, call in calls.items() if not part}
            if len(calls) > 1:
                engine.preprocessor = tasks.Ready(engine.preprocessor)
            alone |= {part: self._seconds(call(engine, work, 1)) for part, call in calls.items() if part}
        del engine
        chains.free(self.device)
        engine = tasks.opened(name, folder, self.device, self.dtype, compiled=self.options.compile)
        rows = [
            self._row(name, part, self._steps(engine, part, call, work), count, alone[part])
            for part, call in calls.items()
        ]
        rows = [self._with_decoding(row, engine, work) for row in rows]
        del engine
        chains.free(self.device)
        return rows

    def _seconds(self, work: Callable[[], object]) -> float:
        return seconds(work, self.device, self.options.repeats)

    def _steps(self, engine: Any, part: str, call: Calls, work: tasks.Work) -> list[Step]:
        steps: list[Step] = []
        for batch in self.ladder:
            try:
                steps.append(self._step(engine, part, call, work, batch))
            except torch.OutOfMemoryError:
                if not steps:
                    raise
                break
            finally:
                chains.free(self.device)
        return steps

    def _step(self, engine: Any, part: str, call: Calls, work: tasks.Work, batch: int) -> Step:
        whole = None if part else self._seconds(call(engine, work, batch))
        if whole is not None and not hasattr(engine, "preprocessor"):
            return Step(batch, whole, whole)  # reads texts
        with mock.patch.object(engine, "preprocessor", tasks.Ready(engine.preprocessor)):
            return Step(batch, self._seconds(call(engine, work, batch)), whole)

    def _row(self, name: str, part: str, steps: list[Step], count: Mapping[str, int], alone: float) -> Row:
        best = min(steps, key=lambda step: (step.whole or step.network) / step.batch)
        inner = (
            {other: count[other] for other in count if other} if not part and len(count) > 1 else {part: count[part]}
        )
        limit = sum(number / self.rates[self.precision(name, other)] for other, number in inner.items())
        precision = " and ".join(dict.fromkeys(self.precision(name, other) for other in inner))
        item = tasks.ITEMS[folders.VARIANTS[name].task]
        return Row(name, part, item, precision, count[part] / 1e9, 1 / limit, steps, best, alone, None)

    def _with_decoding(self, row: Row, engine: Any, work: tasks.Work) -> Row:
        if row.item != "crop":
            return row
        with mock.patch.object(engine, "preprocessor", tasks.Ready(engine.preprocessor)):
            first = self._seconds(partial(tasks.caption, engine, work, row.best.batch, 1))
        return Row(**{**vars(row), "decoding": max(0.0, 1 - first / row.best.network)})

    def chain(self, rows: list[Row]) -> list[chains.Link]:
        """The whole chain with the batches that were best."""
        batches = {row.name: row.best.batch for row in rows if not row.part}
        places = {name: folders.folder_of(name, self.size, self.root) for name in chains.LINKS.values()}
        compiled, repeats = self.options.compile, self.options.repeats
        images = CHAIN_IMAGES[self.size]
        return chains.chain(
            chains.Run(self.size, self.device, self.dtype, compiled, images, alone=2, repeats=repeats), places, batches
        )


def calls_of(name: str) -> dict[str, Calls]:
    """What is timed of a network: a call for an engine, the work and so many items; of SAM its two parts too."""
    task = folders.VARIANTS[name].task
    whole: dict[str, Calls] = {"": lambda engine, work, count: partial(tasks.ASK[task], engine, work, count)}
    if task != "segmenter":
        return whole
    encoder: Calls = lambda engine, work, count: partial(tasks.encode_pictures, engine, work, count)  # noqa: E731
    return {ROWS[1]: encoder, ROWS[2]: tasks.decoder, **whole}


def table(rows: list[Row]) -> str:
    """Markdown: a line per network or part."""
    lines = [
        "| network | GFLOP | products in | batch | network alone | of the measured rate | with preprocessing "
        "| source's way | ratio | beside the network |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        best = row.best
        whole = f"{short(best.batch / best.whole)}/s" if best.whole else ""
        beside = [f"preprocessing {row.preparing:.0%}"] if best.whole else []
        beside += [f"tokens after the first {row.decoding:.0%}"] if row.decoding is not None else []
        lines.append(
            f"| {row.name}{' ' + row.part if row.part else ''} | {short(row.gflop)} per {row.item} | {row.precision} "
            f"| {best.batch} | {short(row.rate)}/s | {row.share:.0%} of {short(row.limit)}/s | {whole} "
            f"| {short(1 / row.source)}/s | {row.ratio:.1f} x | {', '.join(beside)} |"
        )
    return "\n".join(lines)


def aims(rows: list[Row], links: list[chains.Link]) -> list[str]:
    """How far the aims for an H200 are reached; said of the real sizes on a GPU only."""
    lines = [
        f"SAM ViT-H encoder: {row.share:.0%} of the measured rate; the aim is {AIMS['encoder']:.0%}"
        for row in rows
        if (row.name, row.part) == ("sam-vit-h", "encoder")
    ]
    if links:
        ratio = sum(link.source for link in links) / sum(link.ours for link in links)
        lines.append(f"chain: {ratio:.1f} x the source pipelines' way; the aim is {AIMS['chain']:.0f} x")
    return lines


def main() -> None:
    """Print the tables."""
    options = _options()
    if options.device == "cpu":
        torch.set_num_threads(1)
    root = options.folder or Path(tempfile.mkdtemp(prefix="groundlake-engines-"))
    try:
        bench = Bench(options, root)
        where = f"{device_name(options.device)}, torch {torch.__version__}, {options.size} networks"
        print(f"{where}, our engines in {options.dtype}{', compiled' if options.compile else ''}\n")
        print(", ".join(f"{name} products {rate / 1e12:.3g} TFLOP/s" for name, rate in bench.rates.items()), flush=True)
        rows: list[Row] = []
        for name in options.network:
            rows += bench.rows(name)
            print(table(rows).splitlines()[-1], flush=True)
        links = bench.chain(rows) if set(chains.LINKS.values()) <= set(options.network) else []
        print(f"\n{table(rows)}\n\n{chains.table(links) if links else ''}\n")
        if options.size == "real" and kind_of(options.device) == "cuda":
            print("\n".join(aims(rows, links)))
    finally:
        if not options.folder:
            shutil.rmtree(root)
    if options.json:
        content = {"where": where, "rates": bench.rates, "rows": rows, "chain": links}
        options.json.write_text(json.dumps(content, indent=1, default=asdict))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:N or auto")
    parser.add_argument("--size", choices=["small", "real"], help="of the networks; real on a GPU, else small")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16", help="of our engines")
    parser.add_argument("--network", nargs="+", choices=list(folders.VARIANTS), help="which; all when not given")
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes to try, smallest first")
    parser.add_argument("--repeats", type=int, default=5, help="calls whose median counts")
    parser.add_argument("--compile", action="store_true", help="our engines through torch.compile")
    parser.add_argument("--folder", type=Path, help="where the weights are written and stay; else they are removed")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    options.device = resolve_device(options.device)
    options.size = options.size or ("real" if kind_of(options.device) == "cuda" else "small")
    options.network = options.network or NETWORKS[options.size]
    return options


if __name__ == "__main__":
    main()
