"""Random but plausible candles, on a grid, for the tests of the numeric core."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features import Candles, FeatureState, step

MINUTE = 60_000
FIRST_SLOT = 28_333_334  # on no boundary of a block, an hour or a day

Floats = NDArray[np.float64]


def random_ohlcv(seed: int, series: int, slots: int, absent: float = 0.0) -> Floats:
    """Random walks with changing volatility and bursts of volume, (5, S, T); a share of slots is NaN."""
    random = np.random.default_rng(seed)
    shape = (series, slots)
    deviation = 1e-3 * np.exp(np.cumsum(random.normal(0, 0.03, shape), axis=1) - 0.3 * random.random((series, 1)))
    moves = deviation * random.standard_t(4, shape) * (random.random(shape) > 0.1)  # one close in ten stays
    close = 100.0 * np.exp(np.cumsum(np.clip(moves, -0.2, 0.2), axis=1))
    open_ = np.concatenate([np.full((series, 1), 100.0), close], axis=1)[:, :-1]
    high = np.maximum(open_, close) * (1 + deviation * random.exponential(0.5, shape))
    low = np.minimum(open_, close) * (1 - deviation * random.exponential(0.3, shape))
    volume = random.lognormal(0, 1.5, shape) * (random.random(shape) > 0.05)
    ohlcv = np.stack([open_, high, low, close, volume])
    ohlcv[:, random.random(shape) < absent] = np.nan
    return ohlcv


def closes_at(slots: int, timeframe_ms: int = MINUTE, first_slot: int = FIRST_SLOT) -> NDArray[np.int64]:
    """Close times of consecutive slots, (T,)."""
    return np.int64(timeframe_ms) * (first_slot + np.arange(slots))


def candles_at(ohlcv: Floats, rows: NDArray[np.intp], at: int, timeframe_ms: int = MINUTE) -> Candles:
    """The candles of some series at one slot of a table."""
    close_time_ms = np.full(len(rows), closes_at(at + 1, timeframe_ms)[at])
    return Candles(close_time_ms, np.full(len(rows), timeframe_ms), *ohlcv[:, rows, at])


def step_through(state: FeatureState, ohlcv: Floats, timeframe_ms: int = MINUTE) -> tuple[NDArray[np.float32], Floats]:
    """Serve a table slot by slot, resetting nothing: features (S, T, F) and volatility (S, T), NaN where absent."""
    _, series, slots = ohlcv.shape
    features, volatility = np.full((series, slots, 23), np.nan, np.float32), np.full((series, slots), np.nan)
    for at in range(slots):
        rows = np.flatnonzero(np.isfinite(ohlcv[3, :, at]))
        features[rows, at], volatility[rows, at] = step(state, rows, candles_at(ohlcv, rows, at, timeframe_ms))
    return features, volatility
