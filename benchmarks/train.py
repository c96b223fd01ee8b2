"""What training sequence to sequence saves against training window by window: the same LSTM, data, loss and optimizer.

Enters: the real candles beside the checkout. Leaves: figures. Does not know: bundles that anyone serves.

Both train in one process on one core, in turns. `targets_ratio` is of whole training steps. For
`cpu_ratio_equal_quality` both train from the same seeds, each on a schedule of the length that suits it, and the
weights that validation would see are scored again and again. Curves are means over the seeds: one seed alone differs
from another by as much as the margin that is looked for.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.cores import take_worker_core
from benchmarks.figures import Figure, spread
from benchmarks.workload import Size
from models.candle_files import read_candles
from models.errors import CandlewickError

if TYPE_CHECKING:
    from training.dataset import Dataset
    from training.split import Split
    from training.train import Recipe

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent.parent.parent / "shared" / "data" / "binance_usdm_1m_2025"
COMMAND = "python -m benchmarks train --json"
MAY_12_MS, DAY_MS = 1_747_008_000_000, 86_400_000
MARGIN = 1.005
"""Half a percent above the windowed training's best score."""

Curve = NDArray[np.float64]
"""`(2, n)`: seconds of processor time, and the CRPS of the range after them."""


@dataclass(frozen=True)
class Study:
    """How much of it. Ten symbols on eight days are 70,000 rows to train on. Pairs are of chunks and of windows."""

    folder: Path = FOLDER
    begin_ms: int = MAY_12_MS  # UTC, first open time
    days: int = 8
    lookback: int = 64
    hidden: int = 32
    horizon: int = 3
    rounds: int = 3
    timed_batches: tuple[int, int] = (48, 24)  # a round
    seeds: int = 3
    epochs: tuple[int, int] = (6, 4)  # neither gains much from more
    checks: tuple[int, int] = (2, 8)  # an epoch
    scored: int = 4_000  # windows


async def run(size: Size) -> list[Figure]:
    """Of the sizes of the other benchmarks only the rounds mean something here."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=take_worker_core) as pool:
        return pool.submit(measure, Study(rounds=size.rounds)).result()


def measure(study: Study) -> list[Figure]:
    """Time both kinds of training in this process.

    Raises:
        CandlewickError: the real candles are not there.
    """
    from models.predictor import use_one_thread

    use_one_thread()
    dataset, split = _data(study)
    return [_targets(study, dataset, split), _quality(study, dataset, split)]


def _data(study: Study) -> tuple[Dataset, Split]:
    from training.dataset import build_dataset
    from training.split import Fractions, split_time

    if not study.folder.is_dir():
        raise CandlewickError(f"no {study.folder}: the real candles are needed beside the checkout")
    table = read_candles([study.folder])
    table = table.since(study.begin_ms).until(study.begin_ms + study.days * DAY_MS)
    dataset = build_dataset(table, study.lookback, study.horizon)
    return dataset, split_time(dataset.labelled.sum(axis=0), Fractions(), study.horizon)


def _recipes(study: Study, seed: int) -> tuple[Recipe, Recipe]:
    """To train on chunks, and on windows."""
    from models.spec import Network
    from training.train import Recipe

    of_chunks, of_windows = study.epochs
    network = Network(kind="lstm", hidden=study.hidden, layers=1)
    return Recipe(network, of_chunks, seed), Recipe(network, of_windows, seed, windows=True)


def _targets(study: Study, dataset: Dataset, split: Split) -> Figure:
    """Labels a second, in turns."""
    from benchmarks.timed_training import rate

    pairs = [(recipe, count) for recipe, count in zip(_recipes(study, 0), study.timed_batches, strict=True)]
    rounds = [[rate(dataset, split, recipe, count) for recipe, count in pairs] for _ in range(study.rounds)]
    chunks, windows = zip(*rounds, strict=True)
    text = (
        f"training steps on windows of {study.lookback} bars, h{study.hidden}, on the same core; "
        f"labels/s {spread(chunks)} against {spread(windows)}"
    )
    ratio = median(of_chunks / of_windows for of_chunks, of_windows in rounds)
    return Figure("train.targets_ratio", ratio, "x", text, COMMAND)


def _quality(study: Study, dataset: Dataset, split: Split) -> Figure:
    """Processor time until both are as good, curves trained in turns."""
    from benchmarks.timed_training import Judge, curve

    judge = Judge(dataset, split, _recipes(study, 0)[0], study.scored)
    curves: tuple[list[Curve], list[Curve]] = [], []
    for seed in range(study.seeds):
        for kind, recipe, checks in zip(curves, _recipes(study, seed), study.checks, strict=True):
            kind.append(curve(dataset, split, recipe, judge, checks))
            logger.info("trained windows=%s seed=%d cpu_s=%.1f", recipe.windows, seed, kind[-1][0, -1])
    chunks, windows = (mean_curve(kind) for kind in curves)
    return figure_of(chunks, windows, study.seeds)


def figure_of(chunks: Curve, windows: Curve, seeds: int) -> Figure:
    """The ratio of the times at which both are within the margin of the windows' best; 0 where chunks never are."""
    aim = MARGIN * float(windows[1].min())
    of_chunks, of_windows = seconds_until(chunks, aim), seconds_until(windows, aim)
    text = (
        f"windows, CPU until the CRPS of the range is {aim:.5f}, within .5 % of their best: {of_chunks:.3g} s against "
        f"{of_windows:.3g} s; best of chunks {chunks[1].min():.5f}, of windows {windows[1].min():.5f}, mean of {seeds} "
        f"seeds; ran for {chunks[0, -1]:.3g} s and {windows[0, -1]:.3g} s"
    )
    return Figure("train.cpu_ratio_equal_quality", of_windows / of_chunks, "x", text, COMMAND)


def mean_curve(curves: list[Curve]) -> Curve:
    """The mean over the seeds, check by check, for as long as all of them trained."""
    checks = min(curve.shape[1] for curve in curves)
    return np.asarray(np.mean([curve[:, :checks] for curve in curves], axis=0))


def seconds_until(curve: Curve, aim: float) -> float:
    """When a curve first reaches the aim, between two checks on a straight line; infinity where it never does."""
    seconds, crps = curve
    there = np.flatnonzero(crps <= aim)
    if not len(there):
        return math.inf
    after = int(there[0])
    if not after:
        return float(seconds[0])
    share = (crps[after - 1] - aim) / (crps[after - 1] - crps[after])
    return float(seconds[after - 1] + share * (seconds[after] - seconds[after - 1]))
