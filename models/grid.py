"""Features of a whole history: the very step that serves, run over a table of candles.

Enters: a grid of time slots with the candles of S series, NaN where absent. Leaves: features, volatility, and where
they are exact. Does not know: files, labels, splits, models.

Memory of the step is finite, so a long history is cut into segments that run side by side as rows of their own, each
warmed up on the WARM_UP_BARS slots before it: same features within 1e-6, tens of times faster.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.continuity import COLD_AFTER_ABSENT, MAX_ABSENT
from models.feature_kernel import BLOCK_BARS
from models.features import CATALOGUE, WARM_UP_BARS, Candles, FeatureState, step

_ROWS_PER_STEP = 500  # a step costs about as much before its first row as these rows do (measured)


class _Segments(NamedTuple):
    """One row each: it warms up from slot `start`, and answers for those from WARM_UP_BARS later to before `stop`."""

    series: NDArray[np.intp]
    start: NDArray[np.intp]
    stop: NDArray[np.intp]


def grid_features(
    close_time_ms: NDArray[np.int64],
    timeframe_ms: int,
    ohlcv: NDArray[np.float64],
    features: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Compute the features of every warm slot.

    Args:
        close_time_ms: (T,) consecutive grid slots, UTC.
        timeframe_ms: the spacing of the grid.
        ohlcv: (5, S, T) open, high, low, close, volume; NaN in all five where the series has no candle.
        features: (S, T, F) of zeros to write into, for they take more memory than all else; none: a new array.

    Returns:
        features (S, T, F) float32, 0 where not warm; volatility (S, T), NaN where not warm; warm (S, T): a candle is
        present, WARM_UP_BARS or more slots after the series' cold start, and at most 5 % of the last WARM_UP_BARS slots
        are absent. A series starts cold at its first candle, and again after COLD_AFTER_ABSENT absent in a row.

    Raises:
        ValueError: the times are not consecutive slots of `timeframe_ms`.
    """
    if (np.diff(close_time_ms) != timeframe_ms).any():
        raise ValueError(f"close times are not consecutive slots of {timeframe_ms} ms; fill the gaps with NaN candles")
    _, series, slots = ohlcv.shape
    present = np.isfinite(ohlcv[3])
    warm = np.empty_like(present)
    for row, own in enumerate(present[:, None]):  # of all at once, what lies between would be half as large as features
        warm[row] = warm_slots(own)
    features = np.zeros((series, slots, len(CATALOGUE)), np.float32) if features is None else features
    volatility = np.full((series, slots), np.nan)
    segments = _cut(series, slots)
    state, timeframes = FeatureState(len(segments.series)), np.full(len(segments.series), timeframe_ms)
    for bar in range(int((segments.stop - segments.start).max(initial=0))):
        rows = np.flatnonzero(segments.start + bar < segments.stop)
        rows = rows[present[segments.series[rows], segments.start[rows] + bar]]
        at, slot = segments.series[rows], segments.start[rows] + bar
        # A cold restart needs no reset here: what was before is forgotten by the time the series is warm again.
        candles = Candles(close_time_ms[slot], timeframes[rows], *ohlcv[:, at, slot])
        if bar < WARM_UP_BARS:
            state.advance(rows, candles)
            continue
        values, deviation = step(state, rows, candles)
        exact = np.flatnonzero(warm[at, slot])
        features[at[exact], slot[exact]] = values[exact]
        volatility[at[exact], slot[exact]] = deviation[exact]
    return features, volatility, warm


def warm_slots(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the candles whose features are exact, (S, T)."""
    slots = np.arange(present.shape[1])
    last = np.maximum.accumulate(np.where(present, slots, -1), axis=1)
    before = np.concatenate([np.full((len(present), 1), -1), last], axis=1)[:, :-1]  # last candle before the slot
    cold = present & ((before < 0) | (slots - before > COLD_AFTER_ABSENT))
    start = np.maximum.accumulate(np.where(cold, slots, -1), axis=1)
    absent = np.cumsum(~present, axis=1, dtype=np.int64)
    recent = absent.copy()  # of the last WARM_UP_BARS slots
    recent[:, WARM_UP_BARS:] -= absent[:, :-WARM_UP_BARS]
    marks: NDArray[np.bool_] = present & (start >= 0) & (slots - start >= WARM_UP_BARS) & (recent <= MAX_ABSENT)
    return marks


def _cut(series: int, slots: int) -> _Segments:
    """Cut so that the whole costs least: fewer steps against more rows that only warm up."""
    parts = max(1, round(math.sqrt(slots * _ROWS_PER_STEP / (WARM_UP_BARS * max(series, 1)))))
    length = max(1, math.ceil(slots / parts / BLOCK_BARS)) * BLOCK_BARS  # so that all turn their blocks together
    first = np.arange(0, slots, length)
    shape = (series, len(first))
    return _Segments(
        series=np.repeat(np.arange(series), len(first)),
        start=np.broadcast_to(np.maximum(first - WARM_UP_BARS, 0), shape).ravel(),
        stop=np.broadcast_to(np.minimum(first + length, slots), shape).ravel(),
    )
