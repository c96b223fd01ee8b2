"""One training, watched with a stopwatch: how many labels it takes a second, and how good it is after so much work.

Enters: a dataset, its split, a recipe. Leaves: rates and curves. Does not know: what is compared with what.

Time is the processor's, of this process, and that of training batches only: gathering, forward, backward, optimizer.
Whatever lies between (validation, scoring, keeping the best) is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import process_time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.bundle import pack, unpack, with_golden
from models.distribution import gaussian_crps
from models.predictor import WindowedPredictor
from models.spec import Spec
from models.standardised import Standardised
from tests.models.make_bundle import make_spec
from training.chunks import Batch, Batches, Chunks, Epochs, Starts, Windows
from training.dataset import Dataset
from training.progress import Progress, Step
from training.split import Span, Split
from training.train import Recipe, begun, epochs_of, make_repeatable

CPU = torch.device("cpu")
WINDOWS_A_BATCH = 256
"""What serves windows best: with 512 they need half as many labels again until they are as good."""


class Point(NamedTuple):
    """What a training has come to."""

    cpu_s: float
    labels: int
    crps: float  # of the range on the scored windows; NaN where it was not asked for


class Judge:
    """Scores weights on windows that never change, through the predictor that serves; no calibration helps them."""

    def __init__(self, dataset: Dataset, split: Split, recipe: Recipe, windows: int) -> None:
        symbol, slot = dataset.rows(*split.validation)
        some = np.linspace(0, len(symbol) - 1, min(windows, len(symbol))).astype(np.intp)
        rows = symbol[some], slot[some]
        self._spec: Spec = make_spec(
            network=recipe.network, lookback_bars=dataset.lookback_bars, horizon_bars=dataset.horizon_bars
        )
        self._windows = np.concatenate(list(dataset.windows(rows)))
        self._label = dataset.y_range[rows]

    def crps(self, network: Standardised) -> float:
        """Mean CRPS of the range head; less is better."""
        tensors = {name: value.numpy() for name, value in network.state_dict().items()}
        bundle = unpack(pack(self._spec, with_golden(self._spec, tensors)))
        raw = WindowedPredictor(bundle, "cpu").predict(self._windows).astype(np.float64)
        return float(gaussian_crps(self._label, raw[:, 2], np.exp(raw[:, 3])).mean())


class Counted:
    """Batches, of another size if wanted, that count the labels they gave to training."""

    def __init__(self, data: Batches, span: Span, size: int | None = None) -> None:
        self._data, self._span, self.labels = data, span, 0
        self.sequences, self.size, self.validation_size = data.sequences, size or data.size, data.validation_size
        self.learning_rate = data.learning_rate

    def epochs(self, span: Span) -> Epochs:
        """As many passes as without counting."""
        passes, batches = self._data.epochs(span)
        return Epochs(passes, math.ceil(batches * self._data.size / self.size))

    def starts(self, span: Span, shift: int = 0) -> Starts:
        """As without counting."""
        return self._data.starts(span, shift)

    def drawn(self, span: Span, passes: int, rng: np.random.Generator) -> Starts:
        """As without counting."""
        return self._data.drawn(span, passes, rng)

    def take(self, starts: Starts, span: Span) -> Batch:
        """As without counting, and count."""
        batch = self._data.take(starts, span)
        self.labels += int(batch.counts.sum()) if span == self._span else 0
        return batch


class _Enough(Exception):  # noqa: N818  (it is no error)
    """Everything wanted was seen."""


def rate(dataset: Dataset, split: Split, recipe: Recipe, batches: int) -> float:
    """Labels a second over so many batches, after one that is not timed."""
    points: list[Point] = []

    def see(point: Point) -> None:
        points.append(point)
        if len(points) > batches:
            raise _Enough

    _train(dataset, split, recipe, lambda _: float("nan"), 0, see)
    return (points[-1].labels - points[0].labels) / (points[-1].cpu_s - points[0].cpu_s)


def curve(dataset: Dataset, split: Split, recipe: Recipe, judge: Judge, checks: int) -> NDArray[np.float64]:
    """`(2, n)` seconds and CRPS, so many times an epoch, until the last epoch of the recipe or patience ends."""
    points: list[Point] = []
    _train(dataset, split, recipe, judge.crps, checks, points.append)
    seen = [point for point in points if np.isfinite(point.crps)]
    return np.array([[point.cpu_s for point in seen], [point.crps for point in seen]])


def _train(  # noqa: PLR0913  (what to train, and how to watch it)
    dataset: Dataset,
    split: Split,
    recipe: Recipe,
    score: Callable[[Standardised], float],
    checks: int,
    see: Callable[[Point], None],
) -> None:
    """Train, and show every batch; `checks` of an epoch with a score."""
    make_repeatable(CPU)
    source: Batches = Windows(dataset, CPU) if recipe.windows else Chunks(dataset, CPU)
    data = Counted(source, split.train, WINDOWS_A_BATCH if recipe.windows else None)
    member = begun(1, dataset, split, recipe, CPU)
    every = max(round(data.epochs(split.train).batches / checks), 1) if checks else 0
    spent, last = 0.0, process_time()

    def tell(step: Step) -> None:
        nonlocal spent, last
        if not step.validated:
            spent += process_time() - last
            due = every and step.batch % every == 0
            see(Point(spent, data.labels, score(member.averaged) if due else float("nan")))
        last = process_time()

    watching: Progress = tell
    try:
        for _ in epochs_of(member, data, split, recipe.epochs, watching):
            last = process_time()
    except _Enough:
        return
