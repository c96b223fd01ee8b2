"""One step of every feature, for many series at once: the only place where candles become features.

Enters: present candles, at most one a series, and the memory of those series. Leaves: features (n, F), volatility (n,).
Does not know: absent candles (it sees the slot jump), symbols, windows, models, or if it runs live or over history.

Every feature is free of the scales of price and volume, finite, and a function of at most WARM_UP_BARS slots of the
past. Spans up to 180 bars are exponential (alpha = 2 / (span + 1); RSI and ATR are Wilder's, 1 / 14); longer ones are
block-wise rolling windows over grid slots. After a gap the 1-bar return is unknown: it counts as 0, moves neither
variance nor RSI, and the true range is the candle's own range.

Source: volatilities over several spans, Corsi 2009 (A Simple Approximate Long-Memory Model of Realized Volatility);
the range estimator, Parkinson 1980; RSI and ATR, Wilder 1978; bands, Bollinger 2001; MACD, Appel 2005.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.feature_state import (
    ATR_14,
    CANDLES,
    CANDLES_240,
    CLOSES,
    EMA_12,
    EMA_20,
    EMA_26,
    GAIN_14,
    LOSS_14,
    MACD_SIGNAL_9,
    PARKINSON_10,
    PARKINSON_60,
    RETURNS,
    RETURNS_240,
    RETURNS_1440,
    SQUARES,
    SQUARES_240,
    SQUARES_1440,
    VARIANCE_10,
    VARIANCE_60,
    VOLUME,
    VOLUME_10,
    VOLUME_60,
    VOLUME_240,
    Candles,
    FeatureState,
    Floats,
    Ints,
    Rows,
)

__all__ = ["CATALOGUE", "WARM_UP_BARS", "Candles", "FeatureState", "select", "step"]

WARM_UP_BARS = 1500
"""Grid slots from cold until every feature is exact within 1e-6, with at most 5 % of them absent."""

CATALOGUE: tuple[str, ...] = (
    "return",
    "range",
    "body",
    "upper_wick",
    "lower_wick",
    "log_volume",
    "rsi_14",
    "macd",
    "macd_histogram",
    "distance_ema_20",
    "bollinger_b",
    "day_sin",
    "day_cos",
    "volatility_10",
    "volatility_240",
    "volatility_1440",
    "parkinson_10",
    "parkinson_60",
    "volume_10_240",
    "day_sin_2",
    "day_cos_2",
    "hour_sin",
    "hour_cos",
)
"""Append-only: a bundle names the columns it takes, and a column never changes its meaning."""

_SHAPE, _LOG_VOLUME, _MOMENTUM, _BOLLINGER = slice(1, 5), 5, slice(6, 10), 10
_DAY, _RATIOS, _DAY_2, _HOUR = 11, slice(13, 19), 19, 21

_LEAST_VARIANCE = 1e-12  # of a 1-bar log return: a volatility of 0.01 bps
_LEAST_SHARE = 0.04  # of the variance over 1,440 slots: no volatility falls below a fifth of that one
_LEAST_PARKINSON = 1e-14
_LEAST_VOLUME_RATIO = 1e-3
_TINY = float(np.finfo(np.float64).tiny)  # divides nothing by nothing; no volume is as small
_DAY_HOUR_MS = np.array([[86_400_000], [3_600_000]])


def step(state: FeatureState, rows: Rows, candles: Candles) -> tuple[NDArray[np.float32], Floats]:
    """Advance the memory of `rows` by one candle each, and describe what is known at its close.

    `rows` are unique, and the slots (close_time_ms // timeframe_ms) of a row strictly increase from call to call. A
    slot that jumps says that those between are absent; where they are many, the caller has reset the row
    (`models.continuity.COLD_AFTER_ABSENT`).

    Returns:
        features (n, F) float32 in the order of CATALOGUE, and volatility (n,): trailing standard deviation of 1-bar
        log returns, span 60, never below 1e-6 nor a fifth of that over 1,440 bars. A row's result does not depend on
        the other rows of the call. Until WARM_UP_BARS slots have passed both are finite, but not yet exact.
    """
    memory, closes, log_return = state.advance(rows, candles)  # (PLACES, n), (20, n), (n,)
    variances = _variances(memory)  # (4, n)
    volatility = np.sqrt(variances[0])
    unit = candles.close * volatility  # the typical move of one bar, in price
    features = np.empty((len(CATALOGUE), len(rows)))
    np.divide(log_return, volatility, out=features[0])
    _describe_shape(candles, unit, features[_SHAPE])
    _describe_momentum(memory, candles.close, unit, features[_MOMENTUM])
    features[_BOLLINGER] = _bollinger(closes, candles.close, unit)
    ratios = _log_ratios(memory, variances, candles.volume)  # (7, n)
    features[_RATIOS], features[_LOG_VOLUME] = ratios[:6], ratios[6]
    _describe_clock(candles.close_time_ms, features)
    return features.T.astype(np.float32, order="C"), volatility


def select(features: Sequence[str]) -> NDArray[np.intp] | slice:
    """The catalogue columns of a bundle; `slice(None)` when it takes the whole catalogue in order.

    Raises:
        ValueError: a name is not in the catalogue.
    """
    if tuple(features) == CATALOGUE:
        return slice(None)
    return np.array([CATALOGUE.index(name) for name in features], np.intp)


def _variances(memory: Floats) -> Floats:
    """Variances of the 1-bar log return over 60, 10 (exponential), 240 and 1,440 bars (finite), floored, (4, n)."""
    variances = np.empty((4, memory.shape[1]))
    variances[0], variances[1] = memory[VARIANCE_60], memory[VARIANCE_10]
    total = memory[SQUARES_240 : SQUARES_1440 + 1] + memory[SQUARES]
    count = memory[RETURNS_240 : RETURNS_1440 + 1] + memory[RETURNS]
    np.divide(total, np.maximum(count, 1.0), out=variances[2:])
    np.maximum(variances, np.maximum(_LEAST_SHARE * variances[3], _LEAST_VARIANCE), out=variances)
    return variances


def _describe_shape(candles: Candles, unit: Floats, out: Floats) -> None:
    """Range, body, upper and lower wick, in units of the typical move, (4, n)."""
    np.subtract(candles.high, candles.low, out=out[0])
    np.subtract(candles.close, candles.open, out=out[1])
    np.subtract(candles.high, np.maximum(candles.open, candles.close), out=out[2])
    np.subtract(np.minimum(candles.open, candles.close), candles.low, out=out[3])
    out /= unit


def _describe_momentum(memory: Floats, close: Floats, unit: Floats, out: Floats) -> None:
    """RSI less 50 over 20; in units of the true range: MACD 12/26, its histogram (9), distance to EMA 20, (4, n)."""
    gain, loss = memory[GAIN_14], memory[LOSS_14]
    # The last term is seen only where a price stands still so long that its past must be forgotten.
    np.divide(2.5 * (gain - loss), gain + loss + 1e-6 * unit, out=out[0])
    np.subtract(memory[EMA_12], memory[EMA_26], out=out[1])
    np.subtract(out[1], memory[MACD_SIGNAL_9], out=out[2])
    np.subtract(close, memory[EMA_20], out=out[3])
    out[1:] /= np.maximum(memory[ATR_14], 0.2 * unit)


def _bollinger(closes: Floats, close: Floats, unit: Floats) -> Floats:
    """Distance to the mean close of the last 20 slots, over two population standard deviations: 2 %b - 1."""
    count: int | NDArray[np.intp] = CLOSES
    # Distances are from the close, so that their squares keep their digits. A single column is doubled: numpy would sum
    # it in another order, and a series' bits would depend on its company.
    powers = np.empty((2, CLOSES, len(close) + (len(close) == 1)))
    np.subtract(closes, close, out=powers[0])
    if closes.min(initial=np.inf) == 0.0:
        powers[0] *= closes > 0.0
        count = np.count_nonzero(closes, axis=0)
    np.multiply(powers[0], powers[0], out=powers[1])
    mean, mean_square = powers.sum(axis=1)[:, : len(close)] / count
    variance = np.maximum(mean_square - mean * mean, 0.0)
    position: Floats = -mean / (2.0 * np.sqrt(variance) + 0.05 * unit)
    return position


def _log_ratios(memory: Floats, variances: Floats, volume: Floats) -> Floats:
    """Log ratios of volatilities and volumes, (7, n).

    Volatilities (10, 240, 1,440) and Parkinson's (10, 60) to that over 60; the average volume over 10 to that over 240;
    this volume to the average over 60. Those of volume are 0 where nothing traded within 240 bars.
    """
    ratios = np.empty((7, len(volume)))
    ratios[:3] = variances[1:]
    np.add(memory[PARKINSON_10 : PARKINSON_60 + 1], _LEAST_PARKINSON, out=ratios[3:5])
    ratios[:5] /= variances[0]
    total = memory[VOLUME_240] + memory[VOLUME]
    traded = total > 0.0
    average = total / (memory[CANDLES_240] + memory[CANDLES])
    np.divide(memory[VOLUME_10] * traded, np.maximum(average, _TINY), out=ratios[5])
    np.divide(volume, np.maximum(memory[VOLUME_60], _TINY), out=ratios[6])
    ratios[5:] += _LEAST_VOLUME_RATIO
    np.log(ratios, out=ratios)
    ratios[:5] *= 0.5  # variance to standard deviation
    ratios[5:] *= traded
    return ratios


def _describe_clock(close_time_ms: Ints, features: Floats) -> None:
    """Where the close lies in the UTC day (two harmonics) and in the hour."""
    if (close_time_ms == close_time_ms[:1]).all():
        close_time_ms = close_time_ms[:1]  # a tick of one timeframe: once for all
    day_hour = (close_time_ms % _DAY_HOUR_MS) * (2 * math.pi / _DAY_HOUR_MS)
    (day_sin, hour_sin), (day_cos, hour_cos) = np.sin(day_hour), np.cos(day_hour)
    features[_DAY], features[_DAY + 1] = day_sin, day_cos
    features[_DAY_2], features[_DAY_2 + 1] = 2.0 * day_sin * day_cos, 1.0 - 2.0 * day_sin * day_sin
    features[_HOUR], features[_HOUR + 1] = hour_sin, hour_cos
