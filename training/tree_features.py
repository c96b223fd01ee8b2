"""What the trees see of the past: a network reads a window, trees need it told in columns.

Enters: a dataset and rows. Leaves: one float32 table. Does not know: labels, trees, splits.

Every column is a function of the bars up to the row's close, mostly of the window of 64 that the network reads; like
the catalogue itself, exponential averages fade past it. Columns are made one by one over the whole grid and kept for
the wanted rows only, so that memory is that of the table. NaN, where a bar is absent, is a value trees can use.

Source: lagged and averaged ranges over several spans are Corsi's HAR, told finer (2009, A Simple Approximate
Long-Memory Model of Realized Volatility).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features import CATALOGUE
from models.label import LEAST_RANGE
from training.baselines import range_levels
from training.dataset import Dataset, Rows

Grid = NDArray[np.floating[Any]]
"""`(S, T)`."""

EMA_SPANS = (3, 5, 20, 30)
RANGE_LAGS = (0, 1, 2, 3, 4, 5, 7, 9)
SHAPE_LAGS = (1, 2, 3, 5)
MEAN_SPANS = (3, 5, 10, 20, 64)
RANGE_MEAN_SPANS = (12, 60)
ROUGHNESS_SPANS = (20, 64)
HIGHEST_SPAN = 20


def tree_features(dataset: Dataset, rows: Rows) -> NDArray[np.float32]:
    """`(n, K)` float32: the whole catalogue at each row's close, then 45 columns of what came before it."""
    catalogue = dataset.features[rows]
    past = [column[rows].astype(np.float32) for column in _past(dataset)]
    return np.concatenate([catalogue, np.stack(past, axis=1)], axis=1)


def _past(dataset: Dataset) -> Iterator[Grid]:
    _, high, low, close, _ = dataset.ohlcv
    relative = (high - low) / close
    in_units = partial(_log_in_units, volatility=dataset.volatility)
    yield from range_levels(dataset, EMA_SPANS)
    yield from (in_units(_lag(relative, bars)) for bars in RANGE_LAGS)
    for name in ("log_volume", "return", "body"):
        yield from (_lag(_feature(dataset, name), bars) for bars in SHAPE_LAGS)
    for values in (_feature(dataset, "log_volume"), np.abs(_feature(dataset, "return"))):
        yield from (_rolling_mean(values, bars) for bars in MEAN_SPANS)
    yield from (in_units(_rolling_mean(relative, bars)) for bars in RANGE_MEAN_SPANS)
    own = in_units(relative)  # each bar's range in the volatility of its own time
    for bars in ROUGHNESS_SPANS:
        mean = _rolling_mean(own, bars)
        yield mean
        yield np.sqrt(np.maximum(_rolling_mean(own * own, bars) - mean * mean, 0.0))
    yield in_units(reduce(np.fmax, (_lag(relative, bars) for bars in range(1, HIGHEST_SPAN)), relative))


def _feature(dataset: Dataset, name: str) -> Grid:
    return dataset.features[..., CATALOGUE.index(name)]


def _log_in_units(values: Grid, volatility: Grid) -> Grid:
    """A relative range in volatilities of the row's close, as the label has it."""
    with np.errstate(invalid="ignore"):
        return np.log(np.maximum(values / volatility, LEAST_RANGE))


def _lag(values: Grid, bars: int) -> Grid:
    """What stood so many slots before."""
    if bars == 0:
        return values
    lagged = np.full_like(values, np.nan)
    lagged[:, bars:] = values[:, :-bars]
    return lagged


def _rolling_mean(values: Grid, bars: int) -> Grid:
    """Mean of the last so many slots; those that are NaN do not count."""
    known = np.isfinite(values)
    sums = np.cumsum(np.stack([np.where(known, values, 0.0), known]), axis=2, dtype=np.float64)
    sums[:, :, bars:] -= sums[:, :, :-bars].copy()
    total, count = sums
    return np.asarray(total / np.maximum(count, 1.0))
