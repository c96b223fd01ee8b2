"""Which bars are missing, as spans; and bars of an exchange as rows.

Enters: open times that are there, bars as an exchange sent them. Leaves: spans to ask for, rows to keep.
Does not know: exchanges, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.kline import Kline, Span
from models.series import MONDAY_MS, WEEK_MS
from models.series_rows import SeriesRows


def grid_at_or_after(time_ms: int, timeframe_ms: int) -> int:
    """The first open time of the grid that is not before a time; weeks open on Mondays."""
    anchor = MONDAY_MS if timeframe_ms % WEEK_MS == 0 else 0
    return anchor - (anchor - time_ms) // timeframe_ms * timeframe_ms


def slots(span: Span, timeframe_ms: int) -> int:
    """How many bars a span has."""
    return (span.last_ms - span.first_ms) // timeframe_ms + 1


def missing_spans(times: NDArray[np.int64], whole: Span, timeframe_ms: int) -> list[Span]:
    """The bars of a span of which there is none at `times` `(n,)`, which are in order and inside of it."""
    edges = np.concatenate([[whole.first_ms - timeframe_ms], times, [whole.last_ms + timeframe_ms]])
    at = np.flatnonzero(np.diff(edges) > timeframe_ms)
    return [Span(int(edges[i]) + timeframe_ms, int(edges[i + 1]) - timeframe_ms) for i in at]


def joined(spans: Sequence[Span], within_bars: int, timeframe_ms: int) -> list[Span]:
    """Spans near each other as one, so that one request reads over what is between them."""
    together: list[Span] = []
    for span in spans:
        if together and span.first_ms - together[-1].last_ms <= within_bars * timeframe_ms:
            together[-1] = Span(together[-1].first_ms, span.last_ms)
        else:
            together.append(span)
    return together


class Usable(NamedTuple):
    """What can be kept of a page."""

    rows: SeriesRows
    unusable: int  # bars that are none: prices that are no numbers, off the grid, not asked for


def usable(page: Sequence[Kline], asked: Span, timeframe_ms: int) -> Usable:
    """The bars of a page that are candles of the span asked for, in order, each time once."""
    if not page:
        return Usable(SeriesRows(np.empty(0, np.int64), np.empty((5, 0)), np.empty(0, np.int32)), 0)
    time = np.array([bar.open_time_ms for bar in page], np.int64)
    ohlcv = np.array([(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in page], np.float64).T
    _, first = np.unique(time, return_index=True)
    good = np.zeros(len(time), bool)
    good[first] = True
    good &= (time >= asked.first_ms) & (time <= asked.last_ms) & ((time - asked.first_ms) % timeframe_ms == 0)
    good &= _priced(ohlcv)
    at = np.flatnonzero(good)
    at = at[np.argsort(time[at], kind="stable")]
    return Usable(SeriesRows(time[at], ohlcv[:, at], np.zeros(len(at), np.int32)), len(page) - len(at))


def _priced(ohlcv: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`(n,)`: prices and volume are such as every reader of candles takes."""
    open_, high, low, close, volume = ohlcv
    sound = np.isfinite(ohlcv).all(axis=0) & (ohlcv[:4] > 0).all(axis=0) & (volume >= 0)
    return np.asarray(sound & (low <= np.minimum(open_, close)) & (high >= np.maximum(open_, close)))
