"""How sure a figure is: 95 % intervals by resampling blocks of time.

Enters: one number a row, and the block of time each row lies in. Leaves: figures with an interval.
Does not know: what the numbers measure.

Rows of one close (all symbols) and of neighbouring closes move together, so whole blocks of time are drawn, with
replacement, and every figure is computed anew from the blocks drawn.
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 8 (blocks) and 13 (percentile intervals).
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 1_000
SEED = 20_250_601
MIN_BLOCKS = 6
"""With fewer blocks the interval would be too narrow to be honest: it is left empty."""
SCORE_BINS = 400


class Figure(TypedDict):
    """A value and its 95 % interval, in the unit of the value; none where the rows do not give one."""

    value: float | None
    low: float | None
    high: float | None


class Blocks:
    """The blocks of time of a set of rows, and which of them each draw takes."""

    def __init__(self, block: NDArray[np.int64], draws: int = DRAWS, seed: int = SEED) -> None:
        """Args: `block` (N,) the number of each row's block; any integers."""
        known, self._of = np.unique(block, return_inverse=True)
        self.count = len(known)
        drawn = np.random.default_rng(seed).integers(max(self.count, 1), size=(draws, self.count))
        rows = np.arange(draws)[:, None] * self.count
        times = np.bincount((drawn + rows).ravel(), minlength=draws * self.count)
        self._times = times.reshape(draws, self.count).astype(np.float64)  # how often each draw takes each block

    def mean(self, values: Floats) -> Figure:
        """Mean of `(N,)` values."""
        return self.ratio(values, np.ones_like(values))

    def ratio(self, above: Floats, below: Floats) -> Figure:
        """Sum of `(N,)` over sum of `(N,)`: below 1 the first is the smaller."""
        a, b = self._sums(above), self._sums(below)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._figure(a.sum() / b.sum(), (self._times @ a) / (self._times @ b))

    def auc(self, score: Floats, positive: NDArray[np.bool_]) -> Figure:
        """Probability that a positive row has the higher score; the scores are first cut into 400 bins."""
        if positive.all() or not positive.any():
            return Figure(value=None, low=None, high=None)
        edges = np.unique(np.quantile(score, np.linspace(0, 1, SCORE_BINS + 1)[1:-1]))
        bins = np.searchsorted(edges, score)
        ups, downs = (self._histogram(bins[mask], self._of[mask], len(edges) + 1) for mask in (positive, ~positive))
        with np.errstate(invalid="ignore", divide="ignore"):
            value = _auc(ups.sum(axis=0), downs.sum(axis=0))
            return self._figure(value, _auc(self._times @ ups, self._times @ downs))

    def _sums(self, values: Floats) -> Floats:
        return np.bincount(self._of, weights=values, minlength=self.count).astype(np.float64)

    def _histogram(self, bins: NDArray[np.intp], of: NDArray[np.intp], width: int) -> Floats:
        """Rows by block and bin, `(blocks, width)`."""
        counts = np.bincount(of * width + bins, minlength=self.count * width)
        return counts.reshape(self.count, width).astype(np.float64)

    def _figure(self, value: np.float64 | Floats, drawn: Floats) -> Figure:
        drawn = drawn[np.isfinite(drawn)]
        if not np.isfinite(value):
            return Figure(value=None, low=None, high=None)
        if self.count < MIN_BLOCKS or not len(drawn):
            return Figure(value=float(value), low=None, high=None)
        low, high = np.percentile(drawn, [2.5, 97.5])
        return Figure(value=float(value), low=float(low), high=float(high))


def _auc(ups: Floats, downs: Floats) -> Floats:
    """Mann-Whitney's share from histograms over bins of rising score, `(..., bins)`; ties count half."""
    below = np.cumsum(downs, axis=-1) - downs
    wins = (ups * (below + 0.5 * downs)).sum(axis=-1)
    return np.asarray(wins / (ups.sum(axis=-1) * downs.sum(axis=-1)))
