"""How sure a figure is: 95 % intervals by resampling blocks of time, and one-sided bounds that hold with few blocks.

Enters: one number a row, and the block of time each row lies in. Leaves: figures with an interval, or bounds.
Does not know: what the numbers measure.

Rows of one close (all symbols) and of neighbouring closes move together, so whole blocks of time are drawn, with
replacement, and every figure is computed anew from the blocks drawn. That describes; with a dozen blocks it is too sure
of itself to decide by. A bound therefore takes random halves: each block is in or out by the toss of a coin. A ratio's
bound then lies below 1 exactly when a sign-flip test rejects "both are equally good". Where each block might as well
have come out the other way, that happens in at most 5 %, however few the blocks are and however their sizes differ.
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 8 (blocks) and 13 (percentile intervals);
Hartigan 1969, Using Subsample Values as Typical Values (halves); Canay, Romano & Shaikh 2017, Randomization Tests under
an Approximate Symmetry Assumption (few blocks that depend on each other a little).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 1_000
SEED = 20_250_601
MIN_BLOCKS = 6
"""With fewer blocks the interval would be too narrow to be honest: it is left empty."""
SCORE_BINS = 400
ALL_HALVES_BLOCKS = 12
"""Of so many blocks every half is taken; of more, as many at random."""
HALVES = 2**ALL_HALVES_BLOCKS - 1
"""Halves beside the empty one, which stands for the data as they are and counts as a draw against the claim."""


class Figure(TypedDict):
    """A value and its 95 % interval, in the unit of the value; none where the rows do not give one."""

    value: float | None
    low: float | None
    high: float | None


Statistic = Callable[[Floats], Floats]
"""From sums over rows `(..., K)` to what they say, `(...)`, or `(..., J)` where it says several things at once."""


class Blocks:
    """The blocks of time of a set of rows, and which of them each draw takes."""

    def __init__(self, block: NDArray[np.int64], draws: int = DRAWS, seed: int = SEED) -> None:
        """Args: `block` (N,) the number of each row's block; any integers."""
        known, self._of = np.unique(block, return_inverse=True)
        self.count = len(known)
        self._draws, self._seed = draws, seed

    def mean(self, values: Floats) -> Figure:
        """Mean of `(N,)` values."""
        return self.ratio(values, np.ones_like(values))

    def ratio(self, above: Floats, below: Floats) -> Figure:
        """Sum of `(N,)` over sum of `(N,)`: below 1 the first is the smaller."""
        return self.figure(_quotient, self.sums(above, below))

    def auc(self, score: Floats, positive: NDArray[np.bool_]) -> Figure:
        """Probability that a positive row has the higher score; the scores are first cut into 400 bins."""
        if positive.all() or not positive.any():
            return Figure(value=None, low=None, high=None)
        counts = np.concatenate(self.score_histograms(score, positive), axis=1)
        return self.figure(lambda sums: _auc(*np.split(sums, 2, axis=-1)), counts)

    def figure(self, statistic: Statistic, sums: Floats) -> Figure:
        """What a statistic says of sums by block `(blocks, K)`; no row is looked at twice, however many draws."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._figure(statistic(sums.sum(axis=0)), statistic(self.drawn(sums)))

    def figures(self, statistic: Statistic, sums: Floats) -> list[Figure]:
        """The same of a statistic that says several things at once."""
        with np.errstate(invalid="ignore", divide="ignore"):
            values, drawn = statistic(sums.sum(axis=0)), statistic(self.drawn(sums))
        return [self._figure(value, draws) for value, draws in zip(values, drawn.T, strict=True)]

    def sums(self, *columns: Floats) -> Floats:
        """Sums of `(N,)` columns by block, `(blocks, columns)`."""
        return np.stack([self._sums(column) for column in columns], axis=1)

    def histogram(self, bins: NDArray[np.intp], width: int, weights: Floats | None = None) -> Floats:
        """Rows, or the sums of their weights, by block and bin: `(blocks, width)`; `bins` (N,) from 0 to width - 1."""
        return self._histogram(bins, self._of, width, weights)

    def score_histograms(self, score: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Of the positive rows and of the others over 400 bins of rising score: `(blocks, bins)` each."""
        edges = np.unique(np.quantile(score, np.linspace(0, 1, SCORE_BINS + 1)[1:-1]))
        bins = np.searchsorted(edges, score)
        ups, downs = (self._histogram(bins[mask], self._of[mask], len(edges) + 1) for mask in (positive, ~positive))
        return ups, downs

    def drawn(self, sums: Floats) -> Floats:
        """The same sums in every draw: `(blocks, K)` to `(draws, K)`."""
        return np.asarray(self._times @ sums)

    def ratio_bound(self, above: Floats, below: Floats, confidence: float = 0.95) -> float:
        """Upper end of the one-sided interval of `ratio`; infinite with too few blocks for this confidence."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return _upper_end((self._halves @ self._sums(above)) / (self._halves @ self._sums(below)), confidence)

    def auc_bound(self, score: Floats, positive: NDArray[np.bool_], confidence: float = 0.95) -> float:
        """Lower end of the one-sided interval of `auc`; minus infinity where the rows do not give one."""
        if positive.all() or not positive.any():
            return -math.inf
        ups, downs = self.score_histograms(-score, positive)
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - _upper_end(_auc(self._halves @ ups, self._halves @ downs), confidence)

    @property
    def _times(self) -> Floats:
        return _random_times(self.count, self._draws, self._seed)

    @property
    def _halves(self) -> Floats:
        return _random_halves(self.count, self._seed)

    def _sums(self, values: Floats) -> Floats:
        return np.bincount(self._of, weights=values, minlength=self.count).astype(np.float64)

    def _histogram(
        self, bins: NDArray[np.intp], of: NDArray[np.intp], width: int, weights: Floats | None = None
    ) -> Floats:
        counts = np.bincount(of * width + bins, weights, minlength=self.count * width)
        return counts.reshape(self.count, width).astype(np.float64)

    def _figure(self, value: np.float64 | Floats, drawn: Floats) -> Figure:
        drawn = drawn[np.isfinite(drawn)]
        if not np.isfinite(value):
            return Figure(value=None, low=None, high=None)
        if self.count < MIN_BLOCKS or not len(drawn):
            return Figure(value=float(value), low=None, high=None)
        low, high = np.percentile(drawn, [2.5, 97.5])
        return Figure(value=float(value), low=float(low), high=float(high))


@lru_cache(maxsize=2)
def _random_times(count: int, draws: int, seed: int) -> Floats:
    """`(draws, blocks)`: how often each draw takes each block."""
    drawn = np.random.default_rng(seed).integers(max(count, 1), size=(draws, count))
    rows = np.arange(draws)[:, None] * count
    times = np.bincount((drawn + rows).ravel(), minlength=draws * count)
    return times.reshape(draws, count).astype(np.float64)


@lru_cache(maxsize=2)
def _random_halves(count: int, seed: int) -> Floats:
    """`(draws, blocks)`: 1 where a draw takes a block."""
    if count <= ALL_HALVES_BLOCKS:
        halves = np.arange(1, 2**count)[:, None] >> np.arange(count) & 1
    else:
        halves = np.random.default_rng(seed).integers(2, size=(HALVES, count))
    return halves.astype(np.float64)


def _quotient(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _auc(ups: Floats, downs: Floats) -> Floats:
    """Mann-Whitney's share from histograms over bins of rising score, `(..., bins)`; ties count half."""
    below = np.cumsum(downs, axis=-1) - downs
    wins = (ups * (below + 0.5 * downs)).sum(axis=-1)
    return np.asarray(wins / (ups.sum(axis=-1) * downs.sum(axis=-1)))


def _upper_end(drawn: Floats, confidence: float) -> float:
    """The least value that at most `1 - confidence` of the draws reach, the empty one among them."""
    drawn = np.where(np.isfinite(drawn), drawn, math.inf)
    allowed = math.floor((1 - confidence) * (len(drawn) + 1) + 1e-9)
    return float(np.partition(drawn, -allowed)[-allowed]) if allowed else math.inf
