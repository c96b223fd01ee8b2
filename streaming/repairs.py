"""Asks REST for what the feed did not tell: bars missed, and history before the first one.

Enters: spans that sequencers find missing. Leaves: REST's rows in the sequencers. Does not know: sockets, Kafka.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from models.kline import Kline, Span
from models.series import Series
from streaming import metrics
from streaming.feed.errors import ExchangeError, ExchangeUnavailable, UnknownSymbol
from streaming.sequences import EXTRA_ROWS, Entry, Sequences

logger = logging.getLogger(__name__)

WORKERS = 8
"""Requests on their way; the budget of weight holds them back as well."""
NEWEST_ROWS = 5
WITHIN_S = 10.0
"""A request is tried again so long; then others have their turn."""


class Asks(Protocol):
    """The exchange's REST, as far as it is needed here."""

    rows: int  # of one answer at the most
    tells_all: bool  # history goes back to the listing: a bar that is lacking there does not exist

    async def klines(
        self, symbol: str, timeframe: str, first_ms: int | None = None, *, limit: int, within_s: float
    ) -> list[Kline]:
        """Rows from an open time (UTC ms) on, in order; without one, the newest; asked again within a time."""


class Repairs:
    """Of one process. `look` starts what is due; at most `WORKERS` requests are on their way."""

    def __init__(
        self,
        rest: Asks,
        sequences: Sequences,
        now_ms: Callable[[], int],
        stated_ms: Callable[[int], Awaitable[int]],
        doubt: Callable[[Series], None],
    ) -> None:
        """Make one.

        Args:
            rest: who answers.
            sequences: whose bars are missing.
            now_ms: the exchange's time as far as we know, for when to ask.
            stated_ms: its time by its own last word, past this one if it can be: an answer is judged by it.
            doubt: is told of a series that the exchange says it does not know; it is asked for again all the same.
        """
        self._rest = rest
        self._sequences = sequences
        self._now_ms = now_ms
        self._stated_ms = stated_ms
        self._doubt = doubt
        self._asking: set[asyncio.Task[None]] = set()
        self._unreachable = False

    def look(self) -> None:
        """Ask for what is due now."""
        free = WORKERS - len(self._asking)
        for entry, span in self._sequences.due()[: max(free, 0)]:
            entry.asking = True
            entry.sequencer.asked_for(span, self._now_ms())
            task = asyncio.create_task(self._ask(entry, span))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def stop(self) -> None:
        """Drop what is on its way."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _ask(self, entry: Entry, span: Span) -> None:
        series = entry.series
        try:
            await self._read(entry, span)
            self._well()
        except (ExchangeUnavailable, ExchangeError) as error:
            if isinstance(error, UnknownSymbol):
                self._doubt(series)
            self._failed(series, error)
        except Exception as error:
            logger.exception("repair failed series=%s", series.key.decode())
            self._failed(series, error)
        finally:
            entry.asking = False

    async def _read(self, entry: Entry, span: Span) -> None:
        series = entry.series
        bars = (span.last_ms - span.first_ms) // series.timeframe_ms + 1
        asked_at_ms = await self._stated_ms(entry.sequencer.settled_at_ms(span))
        limit = min(self._rest.rows, bars + EXTRA_ROWS)
        rows = await self._rest.klines(series.symbol, series.timeframe, span.first_ms, limit=limit, within_s=WITHIN_S)
        if not rows and (asked_at_ms - span.last_ms) // series.timeframe_ms > 2 * NEWEST_ROWS:
            # Some exchanges answer for a stretch of time and not for so many rows: is there anything later?
            rows = await self._rest.klines(series.symbol, series.timeframe, limit=NEWEST_ROWS, within_s=WITHIN_S)
        age_bars = (asked_at_ms - span.first_ms) // series.timeframe_ms
        if not self._rest.tells_all and rows and rows[0].open_time_ms > span.first_ms and age_bars > limit - 2:
            rows = await self._with_older(series, span, rows)
            if rows[0].open_time_ms > span.first_ms:
                entry = self._sequences.begin_anew(entry, rows[0].open_time_ms)
                span = Span(rows[0].open_time_ms, max(rows[0].open_time_ms, span.last_ms))
        self._sequences.read(entry, [row for row in rows if row.open_time_ms >= span.first_ms], span, asked_at_ms)

    async def _with_older(self, series: Series, span: Span, rows: list[Kline]) -> list[Kline]:
        """These rows, which do not begin with the first bar of the span, and what the exchange has from before it.

        Where that is nothing, its history begins with the rows: of what was before, they say nothing.
        """
        first_ms = span.first_ms - self._rest.rows * series.timeframe_ms
        limit = self._rest.rows
        older = await self._rest.klines(series.symbol, series.timeframe, first_ms, limit=limit, within_s=WITHIN_S)
        told = {row.open_time_ms: row for row in (*older, *rows)}
        return [told[open_ms] for open_ms in sorted(told)]

    def _well(self) -> None:
        if self._unreachable:
            self._unreachable = False
            logger.info("REST answers again")

    def _failed(self, series: Series, error: Exception) -> None:
        """The sequencer asks again, later each time."""
        if not self._unreachable:  # once, not for each of a thousand series
            self._unreachable = True
            logger.warning("REST does not answer, going on series=%s error=%s", series.key.decode(), error)
        metrics.repairs_failed.inc()
