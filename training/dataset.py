"""Candles into rows to learn from: features known at each close, labels that came true after it.

Enters: a `CandleTable`. Leaves: arrays over (symbols, slots) and which of their rows may be used.
Does not know: networks, splits, files. Features come from the very function that serves (`models.grid`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.candle_table import CandleTable
from models.errors import CandlewickError
from models.features import CATALOGUE, WARM_UP_BARS
from models.grid import grid_features
from models.label import labels
from training.split import Span

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Numbers of symbols and of slots, `(n,)` each: what indexes an `(S, T)` array."""
PIECE_ROWS = 16_384
"""Features are most of what training holds in memory. Who needs those of all rows takes some megabytes at a time."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """S symbols on T slots; what lies outside `usable` is of no meaning."""

    symbols: tuple[str, ...]
    timeframe_ms: int
    lookback_bars: int
    horizon_bars: int
    close_time_ms: NDArray[np.int64]  # (T,) UTC
    ohlcv: Floats  # (5, S, T)
    features: NDArray[np.float32]  # (S, T, F) in the order of the catalogue, 0 where absent
    volatility: Floats  # (S, T)
    y_return: Floats  # (S, T)
    y_range: Floats  # (S, T)
    usable: Mask  # (S, T) the window of L rows that ends here is warm and whole: the row would be served
    labelled: Mask  # (S, T) usable, and its label is known

    def rows(self, first: int, stop: int, *more: Any) -> Rows:
        """The labelled rows of a span of slots, ordered by slot; `first, stop` or all that a `Span` holds."""
        labelled = self.labelled[:, first:stop]
        held = labelled & Span(first, stop, *more).holds(first + np.arange(labelled.shape[1]))
        slot, symbol = np.nonzero(held.T)
        return symbol, np.add(slot, first, out=slot)

    def windows(self, rows: Rows, chunk: int = 4_096) -> Iterator[NDArray[np.float32]]:
        """The windows `(n, L, F)` that end at rows, a chunk at a time, newest last."""
        back = np.arange(1 - self.lookback_bars, 1)
        for start in range(0, len(rows[0]), chunk):
            symbol, slot = (index[start : start + chunk] for index in rows)
            yield self.features[symbol[:, None], slot[:, None] + back]

    def pieces(self, rows: Rows) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The features `(n, F)` of rows, a piece at a time, and which of the rows these are."""
        for start in range(0, len(rows[0]), PIECE_ROWS):
            piece = slice(start, start + PIECE_ROWS)
            yield piece, self.features[rows[0][piece], rows[1][piece]]

    def feature_moments(self, rows: Rows) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the features of rows, `(F,)` each."""
        count, width = len(rows[0]), self.features.shape[2]
        mean = sum((x.sum(axis=0, dtype=np.float64) for _, x in self.pieces(rows)), np.zeros(width)) / count
        square = sum((((x - mean) ** 2).sum(axis=0) for _, x in self.pieces(rows)), np.zeros(width))
        return mean, np.sqrt(square / count)


def build_dataset(table: CandleTable, lookback_bars: int, horizon_bars: int) -> Dataset:
    """Features and labels of every series of a table."""
    shape = table.ohlcv.shape[1:]
    dataset = Dataset(
        symbols=table.symbols,
        timeframe_ms=table.timeframe_ms,
        lookback_bars=lookback_bars,
        horizon_bars=horizon_bars,
        close_time_ms=table.close_time_ms,
        ohlcv=table.ohlcv,
        features=np.zeros((*shape, len(CATALOGUE)), np.float32),
        volatility=np.empty(shape),
        y_return=np.empty(shape),
        y_range=np.empty(shape),
        usable=np.empty(shape, np.bool_),
        labelled=np.empty(shape, np.bool_),
    )
    for block in table.blocks():
        _fill(dataset, block)
    return dataset


def _fill(dataset: Dataset, block: slice) -> None:
    """One run of slots without a jump in time."""
    ohlcv, times, features = dataset.ohlcv[:, :, block], dataset.close_time_ms[block], dataset.features[:, block]
    _, volatility, warm = grid_features(times, dataset.timeframe_ms, ohlcv, features)
    dataset.volatility[:, block] = volatility
    for symbol in range(len(warm)):  # of all at once, what lies between would be half as large again as the features
        own = slice(symbol, symbol + 1)
        _, high, low, close, _ = ohlcv[:, own]
        y_return, y_range, valid = labels(close, high, low, volatility[own], dataset.horizon_bars)
        usable = whole_windows(warm[own], dataset.lookback_bars)
        dataset.y_return[own, block], dataset.y_range[own, block] = y_return, y_range
        dataset.usable[own, block], dataset.labelled[own, block] = usable, usable & valid


def whole_windows(good: Mask, lookback_bars: int) -> Mask:
    """`(S, T)`: the last L slots, this one included, are all good."""
    count = np.cumsum(good, axis=1, dtype=np.int64)
    count[:, lookback_bars:] -= count[:, :-lookback_bars].copy()
    return np.asarray(count == lookback_bars)


def long_enough(table: CandleTable, lookback_bars: int, horizon_bars: int) -> tuple[CandleTable, dict[str, str]]:
    """Leave out the series that can give no row, and say what each lacks: too short, or one price only.

    Raises:
        CandlewickError: none is left.
    """
    needed = WARM_UP_BARS + lookback_bars + horizon_bars
    lacks: dict[str, str] = {}
    for symbol, own, close in zip(table.symbols, table.segments, table.ohlcv[3], strict=True):
        longest = max((segment.stop - segment.first for segment in own), default=0)
        if longest < needed:
            lacks[symbol] = f"{longest} bars in a row, {needed} are needed (warm-up, lookback, horizon)"
        elif np.nanmin(close) == np.nanmax(close):
            lacks[symbol] = "its price never changes"
    kept = [symbol for symbol in table.symbols if symbol not in lacks]
    if not kept:
        reasons = "; ".join(f"{symbol}: {lack}" for symbol, lack in lacks.items())
        raise CandlewickError(f"no series can be learned from. {reasons}. Give more candles")
    return table.only(kept), lacks
