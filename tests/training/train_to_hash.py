"""Train a small ensemble and say the hash of its bundle: a process that a test kills. Arguments: [checkpoint file].

Says `{"epoch": ...}` after every epoch, before it is kept, and `{"bundle": ...}` at the end.
"""

import json
import sys
from pathlib import Path

from models.bundle import digest
from models.spec import Network
from tests.training.make_candles import make_table
from training.assemble import assemble
from training.dataset import build_dataset
from training.progress import Step
from training.split import Fractions, split_time
from training.train import Recipe, fit_network

RECIPE = Recipe(Network(kind="lstm", hidden=4, layers=1, members=2), epochs=4, seed=9)
EPOCHS = 8  # of both members


def bundle_hash(checkpoint: Path | None) -> str:
    dataset = build_dataset(make_table(bars=2_000, symbols=("AAA/USDT",)), 8, 3)
    split = split_time(dataset.labelled.sum(axis=0), Fractions(), dataset.horizon_bars)

    def say(step: Step) -> None:
        if step.validated:
            print(json.dumps({"member": step.member, "epoch": step.epoch}), flush=True)

    fitted = fit_network(dataset, split, RECIPE, say, checkpoint=checkpoint)
    return digest(assemble(dataset, split, RECIPE, fitted, "test"))


if __name__ == "__main__":
    print(json.dumps({"bundle": bundle_hash(Path(sys.argv[1]))}), flush=True)
