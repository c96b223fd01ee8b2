from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.spec import Network
from tests.training.make_candles import make_table
from tests.training.train_to_hash import EPOCHS, bundle_hash
from training.dataset import Dataset, build_dataset
from training.progress import Step
from training.split import Fractions, Split, split_time
from training.train import Recipe, fit_network

ROOT = Path(__file__).parents[2]
CALM = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
PAIR = Recipe(Network(kind="lstm", hidden=4, layers=1, members=2), 2, 0)
QUICK = replace(PAIR, windows=True)


class KilledError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(make_table(bars=2_000, symbols=("AAA/USDT",)), 8, 1)


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return split_time(dataset.labelled.sum(axis=0), Fractions(), dataset.horizon_bars)


def weights(dataset: Dataset, split: Split, recipe: Recipe, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
    return fit_network(dataset, split, recipe, checkpoint=checkpoint).network.state_dict()


def epochs_run(dataset: Dataset, split: Split, recipe: Recipe, checkpoint: Path) -> list[tuple[int, int]]:
    steps: list[Step] = []
    fit_network(dataset, split, recipe, steps.append, checkpoint=checkpoint)
    return [(step.member, step.epoch) for step in steps if step.validated]


def cut_short(dataset: Dataset, split: Split, recipe: Recipe, checkpoint: Path, member: int, epoch: int) -> list[Step]:
    """Train until the first batch of an epoch; return what was told until then."""
    steps: list[Step] = []

    def stop(step: Step) -> None:
        steps.append(step)
        if (step.member, step.epoch) == (member, epoch):
            raise KilledError

    with pytest.raises(KilledError):
        fit_network(dataset, split, recipe, stop, checkpoint=checkpoint)
    return steps


def incarnation(checkpoint: Path, kill_after: int | None) -> Iterator[dict[str, object]]:
    """A process that trains; what it says. It is killed, without a warning, once it told of so many epochs."""
    command = [sys.executable, "-m", "tests.training.train_to_hash", str(checkpoint)]
    with subprocess.Popen(command, cwd=ROOT, env=CALM, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for told, line in enumerate(process.stdout, start=1):
            yield json.loads(line)
            if told == kill_after:
                process.kill()
    assert process.returncode == (0 if kill_after is None else -9)


@pytest.mark.timeout(300)
def test_training_killed_at_random_epochs_gives_the_same_bundle(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    rng = np.random.default_rng(12)
    for _ in range(2):
        list(incarnation(checkpoint, kill_after=int(rng.integers(2, 5))))
    assert checkpoint.exists()
    *epochs, last = incarnation(checkpoint, kill_after=None)
    assert 0 < len(epochs) < EPOCHS  # it went on from where the others stood
    assert last == {"bundle": bundle_hash(None)}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("recipe", "member", "epoch"), [(QUICK, 1, 2), (QUICK, 2, 1), (PAIR, 2, 2)])
def test_training_cut_short_goes_on_to_the_same_weights(
    dataset: Dataset, split: Split, tmp_path: Path, recipe: Recipe, member: int, epoch: int
) -> None:
    checkpoint = tmp_path / "checkpoint"
    cut_short(dataset, split, recipe, checkpoint, member, epoch)
    found, wanted = weights(dataset, split, recipe, checkpoint), weights(dataset, split, recipe)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_training_that_had_stopped_early_does_not_go_on(dataset: Dataset, split: Split, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    noise = replace(dataset, y_range=rng.normal(size=dataset.y_range.shape))
    first, again = (cut_short(noise, split, replace(QUICK, epochs=40), tmp_path / "checkpoint", 2, 1) for _ in range(2))
    assert max(step.epoch for step in first if step.member == 1) < 40
    assert {step.member for step in again} == {2}


@pytest.mark.parametrize(
    "other",
    [
        replace(QUICK, seed=1),
        replace(QUICK, windows=False),
        replace(QUICK, network=msgspec.structs.replace(QUICK.network, members=3)),
    ],
    ids=["seed", "chunks", "members"],
)
def test_checkpoint_of_another_recipe_is_ignored_and_said_so(
    dataset: Dataset, split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture, other: Recipe
) -> None:
    checkpoint = tmp_path / "checkpoint"
    cut_short(dataset, split, QUICK, checkpoint, 2, 1)
    assert epochs_run(dataset, split, other, checkpoint)[0] == (1, 1)
    assert "checkpoint ignored: of other candles, options or code" in caplog.text


def test_checkpoint_of_other_data_is_ignored(dataset: Dataset, split: Split, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    y_range = dataset.y_range.copy()
    y_range[0, split.train.first + 5] += 1e-6
    for other, cut in (
        (replace(dataset, y_range=y_range), split),
        (dataset, split._replace(train=split.train._replace(stop=split.train.stop - 1))),
    ):
        cut_short(dataset, split, QUICK, checkpoint, 2, 1)
        assert epochs_run(other, cut, QUICK, checkpoint)[0] == (1, 1)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "number"])
def test_checkpoint_that_is_damaged_is_ignored_and_said_so(
    dataset: Dataset, split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    checkpoint = tmp_path / "checkpoint"
    cut_short(dataset, split, QUICK, checkpoint, 2, 1)
    whole = checkpoint.read_bytes()
    middle = len(whole) // 2
    checkpoint.write_bytes(
        {
            "empty": b"",
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "foreign": b"PK\x03\x04" * 100,
            "number": re.sub(rb'(steps\\": )\d', rb"\g<1>9", whole, count=1),
        }[damage]
    )
    assert checkpoint.read_bytes() != whole
    assert epochs_run(dataset, split, QUICK, checkpoint)[0] == (1, 1)
    assert "checkpoint ignored: cannot be read" in caplog.text
    assert not checkpoint.exists()


def test_checkpoint_that_cannot_be_written_leaves_training_alone(
    dataset: Dataset, split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    caplog.set_level(logging.WARNING)
    found, wanted = weights(dataset, split, QUICK, in_the_way / "checkpoint"), weights(dataset, split, QUICK)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert "checkpoint not kept" in caplog.text
