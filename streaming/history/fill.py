"""One series of a dataset, filled from an exchange: what is missing is asked for, and what came is kept.

Enters: an exchange that gives pages, a span. Leaves: parts of a dataset, and what became of the span.
Does not know: which exchange, and who wants it.

What the dataset holds is where it goes on, so nothing else has to be remembered: killed at any moment, the next run
asks for what is not there. Bars that are missing after a first read are asked for a second time; what is missing then
too, the exchange does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.candle_dataset import held_times, month_name
from models.kline import Kline, Span
from models.parquet_writing import merge_rows
from models.places import Place
from models.series import Series
from models.series_rows import NO_ROWS, SeriesRows, united
from streaming.feed.errors import ExchangeUnavailable
from streaming.history.gap_report import Filled
from streaming.history.patience import Patience
from streaming.history.spans import joined, missing_spans, usable

MOST_ROWS = 250_000
"""Kept in memory of a series before they are written, if its month does not end before; 1m has 44,640 a month."""
NEAR_BARS = 500
"""Missing spans nearer to each other than this are read as one: that costs less than a request each."""
READS = 2


class Source(Protocol):
    """Whoever gives pages of bars, in order of time and without skipping any; `streaming.feed.rest.Rest` does."""

    def pages(
        self, symbol: str, timeframe: str, first_ms: int, last_ms: int, within_s: float = ...
    ) -> AsyncIterator[list[Kline]]:
        """Bars that open from `first_ms` to `last_ms`, both included, UTC."""


@dataclass(frozen=True)
class Store:
    """Where candles go, and how long their exchange is waited for."""

    out: Place
    patience: Patience
    told: Callable[[Filled], None] = lambda filled: None  # of progress


async def fill(source: Source, series: Series, filled: Filled, store: Store) -> None:
    """Make the dataset hold all that the exchange has of a span; `filled` tells how far it is, also when it fails.

    Raises:
        CandlewickError: the dataset cannot be read or written, or the exchange refuses.
        ExchangeUnavailable: it did not answer for too long; what came before is kept.
    """
    await _Filling(source, series, filled, store).run()


class _Filling:
    """One series on its way."""

    def __init__(self, source: Source, series: Series, filled: Filled, store: Store) -> None:
        self._source = source
        self._series = series
        self._length_ms = series.timeframe_ms
        self._filled = filled
        self._store = store
        self._times: NDArray[np.int64] = NO_ROWS.open_time_ms  # in the dataset
        self._waiting: list[SeriesRows] = []  # not written yet; of one month

    async def run(self) -> None:
        whole, filled = self._filled.wanted, self._filled
        self._times = await asyncio.to_thread(held_times, self._store.out, self._series, whole.first_ms, whole.last_ms)
        filled.held = len(self._times)
        self._store.told(filled)
        for _ in range(READS):
            for span in joined(self._missing(), NEAR_BARS, self._length_ms):
                await self._read(span)
        filled.absent, filled.done = self._missing(), True
        self._store.told(filled)

    def _missing(self) -> list[Span]:
        return missing_spans(self._times, self._filled.wanted, self._length_ms)

    async def _read(self, span: Span) -> None:
        """Read a span to its end, and write what came, whatever happens."""
        next_ms = span.first_ms
        try:
            while next_ms <= span.last_ms:
                try:
                    async for page in self._pages(next_ms, span.last_ms):
                        self._store.patience.heard()
                        next_ms = max(next_ms, page[-1].open_time_ms + self._length_ms) if page else next_ms
                        await self._take(page, span)
                    self._store.patience.heard()
                    await self._write()
                    break
                except ExchangeUnavailable as failure:
                    await self._write()
                    await self._store.patience.wait(failure)
        finally:
            self._keep(self._taken())

    def _pages(self, first_ms: int, last_ms: int) -> AsyncIterator[list[Kline]]:
        within_s = self._store.patience.question_s
        return self._source.pages(self._series.symbol, self._series.timeframe, first_ms, last_ms, within_s=within_s)

    async def _take(self, page: list[Kline], span: Span) -> None:
        rows, unusable = usable(page, span, self._length_ms)
        self._filled.unusable += unusable
        rows = rows.take(~np.isin(rows.open_time_ms, self._times))
        months = rows.open_time_ms.astype("M8[ms]").astype("M8[M]")
        for month in np.unique(months):
            if self._waiting and month_name(int(self._waiting[-1].open_time_ms[-1])) != str(month):
                await self._write()
            self._waiting.append(rows.take(months == month))
        self._filled.new += len(months)
        if sum(len(own.open_time_ms) for own in self._waiting) > MOST_ROWS:
            await self._write()
        self._store.told(self._filled)

    async def _write(self) -> None:
        await asyncio.to_thread(self._keep, self._taken())

    def _taken(self) -> SeriesRows:
        rows, self._waiting = united(self._waiting), []
        return rows

    def _keep(self, rows: SeriesRows) -> None:
        if len(rows.open_time_ms):
            merge_rows(self._store.out, self._series, rows)
            self._times = np.union1d(self._times, rows.open_time_ms)
