"""One step of every feature, for many series at once: the only place where candles become features.

Enters: present candles, at most one a series, and the memory of those series. Leaves: features (n, F), volatility (n,).
Does not know: absent candles (it sees the slot jump), symbols, windows, models, or if it runs live or over history.

Every feature is free of the scales of price and volume, finite, and a function of at most WARM_UP_BARS slots of the
past. Spans up to 180 bars are exponential (alpha = 2 / (span + 1); RSI and ATR are Wilder's, 1 / 14); longer ones are
block-wise rolling windows over grid slots. After a gap the 1-bar return is unknown: it counts as 0, moves neither
variance nor RSI, and the true range is the candle's own range.
The formulas and their sources stand in `models.feature_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.feature_state import Candles, FeatureState, Floats, Rows

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
    return state.describe(rows, candles, len(CATALOGUE))


def select(features: Sequence[str]) -> NDArray[np.intp] | slice:
    """The catalogue columns of a bundle; `slice(None)` when it takes the whole catalogue in order.

    Raises:
        ValueError: a name is not in the catalogue.
    """
    if tuple(features) == CATALOGUE:
        return slice(None)
    return np.array([CATALOGUE.index(name) for name in features], np.intp)
