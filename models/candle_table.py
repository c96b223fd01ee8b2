"""Candles of many series on one grid of time: what replay publishes and what training learns from.

Enters: arrays that `models.candle_files` has read and judged. Leaves: a frozen table and cuts of it.
Does not know: files, features, Kafka.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import CandlewickError
from models.places import Place
from models.series import canonical_symbol, timeframe_name

MAX_ABSENT_RUN = 1_500
"""More missing bars than this in a row start a new segment: the feature memory is no longer than that."""


class RejectedRow(NamedTuple):
    """A row of a file that was dropped; its slot is then absent like any other missing bar."""

    file: Place
    line: int  # counted from 1, a header included; of a Parquet file the row
    reason: str
    symbol: str = ""  # empty where the row could not be read


class Segment(NamedTuple):
    """Slots `first <= slot < stop` where a series speaks: a bar missing inside is absent, outside nothing is said."""

    first: int
    stop: int


@dataclass(frozen=True, eq=False)
class CandleTable:
    """Candles of S series on T slots of one timeframe.

    Slots are one timeframe apart, except where every series is silent for more than 1,500 bars: such spans are left out
    (see `blocks`). `ohlcv` is `(5, S, T)` float64: open, high, low, close, volume; NaN where there is no row.
    """

    exchange: str
    timeframe_ms: int
    symbols: tuple[str, ...]  # sorted
    open_time_ms: NDArray[np.int64]  # (T,) UTC
    ohlcv: NDArray[np.float64]  # (5, S, T)
    segments: tuple[tuple[Segment, ...], ...]  # for each series, in order of time
    rejected: tuple[RejectedRow, ...] = ()
    injected: NDArray[np.bool_] | None = None  # (S, T) made up, not the exchange's; None: no candle is

    @property
    def timeframe(self) -> str:
        """The name of the bar length, e.g. `1m`."""
        return timeframe_name(self.timeframe_ms)

    @property
    def close_time_ms(self) -> NDArray[np.int64]:
        """`(T,)` UTC milliseconds: the open time plus one timeframe."""
        return self.open_time_ms + self.timeframe_ms

    @property
    def present(self) -> NDArray[np.bool_]:
        """`(S, T)`: there is a candle."""
        return np.asarray(np.isfinite(self.ohlcv[3]))

    @property
    def rows(self) -> int:
        """Number of candles."""
        return int(self.present.sum())

    def blocks(self) -> list[slice]:
        """Runs of slots that are one timeframe apart, in order; together they are the whole table."""
        cuts = np.flatnonzero(np.diff(self.open_time_ms) != self.timeframe_ms) + 1
        edges = [0, *cuts.tolist(), len(self.open_time_ms)]
        return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]

    def until(self, close_time_ms: int) -> CandleTable:
        """The candles closed at or before a time (UTC ms)."""
        return self._cut(0, int(np.searchsorted(self.close_time_ms, close_time_ms, side="right")))

    def since(self, open_time_ms: int) -> CandleTable:
        """The candles that opened at or after a time (UTC ms)."""
        return self._cut(int(np.searchsorted(self.open_time_ms, open_time_ms, side="left")), len(self.open_time_ms))

    def only(self, symbols: Sequence[str]) -> CandleTable:
        """The candles of these symbols, on the same slots.

        Raises:
            CandlewickError: a symbol is not in the table.
        """
        unknown = sorted(set(symbols) - set(self.symbols))
        if unknown:
            raise CandlewickError(f"no candles of {', '.join(unknown)}; the files hold {', '.join(self.symbols)}")
        index = [i for i, symbol in enumerate(self.symbols) if symbol in set(symbols)]
        return replace(
            self,
            symbols=tuple(self.symbols[i] for i in index),
            ohlcv=self.ohlcv[:, index],
            segments=tuple(self.segments[i] for i in index),
            injected=None if self.injected is None else self.injected[index],
        )

    def chosen(self, symbols: Sequence[str]) -> CandleTable:
        """The candles of the symbols that a person named, like `BTCUSDT` or `BTC/USDT`; all where none is named.

        Raises:
            CandlewickError: a name is no symbol, or not in the table.
        """
        try:
            return self.only([canonical_symbol(symbol) for symbol in symbols]) if symbols else self
        except ValueError as error:
            raise CandlewickError(str(error)) from error

    def _cut(self, first: int, stop: int) -> CandleTable:
        moved = [[Segment(max(a, first) - first, min(b, stop) - first) for a, b in own] for own in self.segments]
        return replace(
            self,
            open_time_ms=self.open_time_ms[first:stop],
            ohlcv=self.ohlcv[:, :, first:stop],
            segments=tuple(tuple(s for s in own if s.stop > s.first) for own in moved),
            injected=None if self.injected is None else self.injected[:, first:stop],
        )


def build_table(
    exchange: str,
    timeframe_ms: int,
    series: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]],
    rejected: Sequence[RejectedRow] = (),
) -> CandleTable:
    """Lay series on one grid.

    `series` maps a symbol to its open times `(N,)`, strictly increasing and on the grid, and its candles `(5, N)`.
    """
    symbols = tuple(sorted(series))
    slots = _slots([series[symbol][0] for symbol in symbols], timeframe_ms)
    ohlcv = np.full((5, len(symbols), len(slots)), np.nan)
    segments = []
    for i, symbol in enumerate(symbols):
        open_time_ms, candles = series[symbol]
        at = np.searchsorted(slots, open_time_ms)
        ohlcv[:, i, at] = candles
        segments.append(_segments(open_time_ms, at, timeframe_ms))
    return CandleTable(exchange, timeframe_ms, symbols, slots, ohlcv, tuple(segments), tuple(rejected))


def _slots(times: list[NDArray[np.int64]], timeframe_ms: int) -> NDArray[np.int64]:
    """Every slot from the first candle to the last, without the spans in which all series are silent for too long."""
    known = times[0]
    for time in times[1:]:
        known = _union(known, time)
    cuts = _long_silences(known, timeframe_ms)
    runs = [np.arange(run[0], run[-1] + 1, timeframe_ms) for run in np.split(known, cuts)]
    return np.concatenate(runs).astype(np.int64)


def _union(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The times of both, each once; both are in order, which makes this cheap."""
    if np.array_equal(one, other):
        return one
    both = np.sort(np.concatenate([one, other]), kind="stable")
    return np.asarray(both[np.concatenate([[True], np.diff(both) > 0])])


def _segments(open_time_ms: NDArray[np.int64], at: NDArray[np.int64], timeframe_ms: int) -> tuple[Segment, ...]:
    runs = np.split(at, _long_silences(open_time_ms, timeframe_ms))
    return tuple(Segment(int(run[0]), int(run[-1]) + 1) for run in runs)


def _long_silences(open_time_ms: NDArray[np.int64], timeframe_ms: int) -> NDArray[np.int64]:
    """Positions before which more than `MAX_ABSENT_RUN` bars are missing."""
    missing = np.diff(open_time_ms) // timeframe_ms - 1
    return np.flatnonzero(missing > MAX_ABSENT_RUN) + 1
