"""Where a bundle is good and where it is not: the same scores by symbol, hour, volatility and age; and PIT histograms.

Enters: scores of rows. Leaves: plain dictionaries of figures. Does not know: how the scores were made.
Many cells are looked at here and none is corrected for it: of twenty intervals, one misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.bootstrap import MIN_BLOCKS, Blocks, Figure
from training.dataset import Dataset, Rows
from training.row_scores import HeadScores, RowScores

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

HOUR_MS, HOURS = 3_600_000, 24
REGIMES = ("low", "middle", "high")
PIT_BINS = 20


def coverage(head: HeadScores, blocks: Blocks, nominal: float) -> Figure:
    """How often the label lay inside the central interval of nominal coverage."""
    return blocks.mean((np.abs(head.level - 0.5) <= nominal / 2).astype(np.float64))


def by_symbol(scores: RowScores, rows: Rows, symbols: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Range, return and the AUC of every symbol that has a row."""
    cells = {}
    for number in np.unique(rows[0]).tolist():
        own = scores.take(rows[0] == number)
        blocks = Blocks(own.block[own.moved])
        auc = blocks.auc(own.probability_up[own.moved], own.up[own.moved])
        cells[symbols[number]] = {**_both_heads(own), "direction": {"auc": auc}}
    return cells


def by_hour(scores: RowScores, close_time_ms: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The range by the UTC hour in which a row's bar closed; `close_time_ms` (n,)."""
    hour = close_time_ms // HOUR_MS % HOURS
    cells = []
    for number in range(HOURS):
        own = scores.take(hour == number)
        blocks = Blocks(own.block)
        found = {
            "crps_vs_har": blocks.ratio(own.range.crps, own.range.crps_of["har"]),
            "coverage80": coverage(own.range, blocks, 0.8),
        }
        cells.append({"hour": number, "rows": len(own), "range": found})
    return cells


def by_volatility(scores: RowScores, relative: Floats) -> list[dict[str, Any]]:
    """Thirds of the rows by volatility relative to the symbol's usual one, `(n,)`."""
    if not len(relative):
        return []
    regime = np.searchsorted(np.quantile(relative, [1 / 3, 2 / 3]), relative, side="right")
    return [{"regime": name, **_both_heads(scores.take(regime == i))} for i, name in enumerate(REGIMES)]


def by_sample(scores: RowScores, in_sample: Mask) -> list[dict[str, Any]]:
    """Rows that close before the end of training, and those after it."""
    samples = {"in-sample": in_sample, "after training": ~in_sample}
    return [{"sample": name, **_both_heads(scores.take(mask))} for name, mask in samples.items() if mask.any()]


def relative_volatility(dataset: Dataset, rows: Rows, first: int) -> Floats:
    """Volatility of rows over the symbol's median before slot `first`, or, where it has none, over that of its rows."""
    relative = np.empty(len(rows[0]))
    for number in np.unique(rows[0]).tolist():
        own = rows[0] == number
        before = dataset.volatility[number, :first][dataset.usable[number, :first]]
        now = dataset.volatility[number, rows[1][own]]
        relative[own] = now / np.median(before if len(before) else now)
    return relative


def pit(head: HeadScores, blocks: Blocks) -> dict[str, Any]:
    """Shares of the labels by their place in the forecast, 20 bins.

    `low` and `high` hold 95 % of what a bin's share would be if all were .05 alike, by the blocks' own swings.
    """
    if not len(head.level):
        return {"shares": [], "low": None, "high": None}
    bins = np.clip((head.level * PIT_BINS).astype(np.intp), 0, PIT_BINS - 1)
    counts = blocks.histogram(bins, PIT_BINS)
    shares = _share(counts.sum(axis=0))
    content: dict[str, Any] = {"shares": shares.tolist(), "low": None, "high": None}
    if blocks.count >= MIN_BLOCKS:
        low, high = np.percentile(_share(blocks.drawn(counts)) - shares, [2.5, 97.5]) + 1 / PIT_BINS
        content |= {"low": max(float(low), 0.0), "high": float(high)}
    return content


def _both_heads(scores: RowScores) -> dict[str, Any]:
    blocks, span, back = Blocks(scores.block), scores.range, scores.return_
    return {
        "rows": len(scores),
        "range": {
            "crps_vs_har": blocks.ratio(span.crps, span.crps_of["har"]),
            "crps_vs_range_ewma": blocks.ratio(span.crps, span.crps_of["range_ewma"]),
            "coverage80": coverage(span, blocks, 0.8),
        },
        "return": {
            "crps_vs_baseline": blocks.ratio(back.crps, back.crps_of["baseline"]),
            "coverage80": coverage(back, blocks, 0.8),
        },
    }


def _share(counts: Floats) -> Floats:
    return np.asarray(counts / counts.sum(axis=-1, keepdims=True))
