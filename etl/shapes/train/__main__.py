"""``python -m etl.shapes.train NAME``: train one small network, or go on from its checkpoint."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from etl.shapes.train.loop import Plan, Task, train

PLANS = {
    "tagger": Plan(steps=6_000, batch=16, learning_rate=2e-3),
    "segmenter": Plan(steps=2_900, batch=8, learning_rate=1.5e-3, weight_decay=0.02),
    "captioner": Plan(steps=4_300, batch=32, learning_rate=1.5e-3),
    "grounder": Plan(steps=5_700, batch=8, learning_rate=1.2e-3, weight_decay=0.02, clip=0.5),
    "embedder": Plan(steps=600, batch=128, learning_rate=2e-3),
}


def main() -> None:
    """Train the network that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m etl.shapes.train", description=__doc__)
    parser.add_argument("network", choices=sorted(PLANS))
    parser.add_argument("--out", type=Path, default=Path(".train"), help="folder of checkpoints and results")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    plan = PLANS[given.network]
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    train(_task(given.network, plan.seed, given.out), plan, given.out / given.network, given.device)


def _task(name: str, seed: int, folder: Path) -> Task:
    if name == "tagger":
        from etl.shapes.train.tagger import Tagger

        return Tagger(seed)
    if name == "grounder":
        from etl.shapes.train.grounder import Grounder

        return Grounder(seed, folder / "tagger" / "network")
    if name == "captioner":
        from etl.shapes.train.captioner import Captioner

        return Captioner(seed)
    if name == "embedder":
        from etl.shapes.train.embedder import Embedder

        return Embedder(seed)
    from etl.shapes.train.segmenter import Segmenter

    return Segmenter(seed)


if __name__ == "__main__":
    main()
