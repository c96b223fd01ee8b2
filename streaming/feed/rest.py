"""What is asked of an exchange by REST: bars, its clock, its markets.

Enters: symbols and spans of time. Leaves: bars as the exchange tells them, none of them final by its own word. Does not
know: which bars are wanted, and what becomes of them.

One answer holds so many rows at most, and exchanges have holes: `pages` reads a long span without skipping a row.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from models.kline import Kline
from models.series import timeframe_ms
from streaming.feed.asking import Asking
from streaming.feed.door import Door, answer_of_task, budget_for
from streaming.feed.errors import ExchangeError
from streaming.feed.exchanges import abilities, check_timeframes
from streaming.feed.symbols import Market, read_markets, unknown
from streaming.settings import ExchangeSettings

ROWS = 1_000
"""Of one answer at the most: what Binance spot gives, and what its futures still weigh little for."""
FEW_ROWS = 100
"""Likewise, where ccxt does not know how many an exchange gives."""
AGREEING = 2
"""Answers without a row that make an end."""
WITHIN_S = 60.0
DATE_S = 30.0
"""Where the date of an answer must do for the exchange's clock: an older one says nothing of how that goes."""
_RAW = {"binance": "public_get_klines", "binanceus": "public_get_klines", "binanceusdm": "fapipublic_get_klines"}
"""ccxt's methods that return an answer as it came."""


class ServerTime(NamedTuple):
    """What the exchange's clock said, and ours (monotonic) before and after; the truth lies between."""

    server_ms: int  # UTC
    sent_at_s: float
    received_at_s: float


class Rest:
    """Of one exchange; one a process, since limits are counted by address."""

    def __init__(
        self,
        exchange: Any,
        settings: ExchangeSettings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args: `exchange` as `open_exchange` gives it; it belongs to this object from now on."""
        self.exchange = exchange
        self.name = str(exchange.id)
        self.door = Door(exchange, budget_for(exchange, settings), clock, sleep)
        self.rows = rows_of(exchange)
        self.tells_all = self.name in _RAW  # back to the listing; Kraken, for one, gives its newest 720 bars only
        self._asking = Asking(self.name, self.door, clock, sleep)
        self._clock = clock
        self._markets: dict[str, Market] = {}
        self._loading: asyncio.Task[None] | None = None

    async def klines(  # noqa: PLR0913 - a span, a count and a time-out, of which few are ever given
        self,
        symbol: str,
        timeframe: str,
        first_ms: int | None = None,
        limit: int = ROWS,
        last_ms: int | None = None,
        within_s: float = WITHIN_S,
    ) -> list[Kline]:
        """Bars in order of time, each once; never called closed, since the newest ones are not.

        Args:
            symbol: as ccxt calls it.
            timeframe: of the exchange.
            first_ms: open time of the first bar wanted, UTC; none: the newest `limit` bars.
            limit: rows at most, up to `rows`.
            last_ms: open time of the last one wanted, itself included; none: as many as there are.
            within_s: in which it may be asked again.

        Raises:
            UnknownSymbol: the exchange does not know the symbol; the message has near names.
            ExchangeError: another question that it will never answer.
            ExchangeUnavailable: no answer within the time.
        """
        await self._knows(symbol, timeframe, within_s)
        if first_ms is not None and last_ms is not None:
            limit = min(limit, (last_ms - first_ms) // timeframe_ms(timeframe) + 1)
        if limit < 1:
            return []
        span = (first_ms, last_ms, min(limit, self.rows))
        ask = self._raw_bars if self.name in _RAW else self._parsed_bars
        rows = await self._asking.answer(lambda: ask(symbol, timeframe, *span), within_s)
        low, high = first_ms or 0, math.inf if last_ms is None else last_ms
        bars = {bar.open_time_ms: bar for bar in rows if low <= bar.open_time_ms <= high}
        return [bars[open_ms] for open_ms in sorted(bars)]

    async def pages(
        self, symbol: str, timeframe: str, first_ms: int, last_ms: int, within_s: float = WITHIN_S
    ) -> AsyncIterator[list[Kline]]:
        """All bars from one open time to another, both included, in lists of up to `rows`, in order of time.

        What is missing in them is missing at the exchange. Each list follows the last row of the one before. Where
        there is none, exchanges differ: those of Binance's shape pass over holes of any length, so that it is the end,
        once a second answer agrees; others answer for a stretch of time, and the next stretch is asked for. None of
        these lists is empty.

        Raises:
            UnknownSymbol, ExchangeError, ExchangeUnavailable: as `klines`, `within_s` for each list.
        """
        step_ms, empty = timeframe_ms(timeframe), 0
        while first_ms <= last_ms and not (empty == AGREEING and self.name in _RAW):
            page = await self.klines(symbol, timeframe, first_ms, last_ms=last_ms, within_s=within_s)
            if page:
                yield page
                first_ms, empty = page[-1].open_time_ms + step_ms, 0
            else:
                empty += 1
                first_ms += 0 if self.name in _RAW else self.rows * step_ms

    async def server_time(self, within_s: float = WITHIN_S) -> ServerTime | None:
        """The exchange's clock; none where it neither has a call for it nor dates its answers.

        Dates are of whole seconds, so that theirs is the middle of that second, and the times around it half a second
        further apart.
        """
        if self.tells_time:
            server_ms = await self._asking.answer(self.exchange.fetch_time, within_s)
            answer = answer_of_task.get()
            if isinstance(server_ms, int):
                return ServerTime(server_ms, answer.sent_at_s, answer.received_at_s)
        await self.markets(within_s=within_s)  # any answer will do
        if self.door.last.date is not None and self._clock() - self.door.last.received_at_s > DATE_S:
            await self._ask_for_little(within_s)
        answer = self.door.last
        try:
            date = parsedate_to_datetime(answer.date or "")
        except ValueError:
            return None
        return ServerTime(int(date.timestamp() * 1000) + 500, answer.sent_at_s - 0.5, answer.received_at_s + 0.5)

    async def markets(self, reload: bool = False, within_s: float = WITHIN_S) -> dict[str, Market]:
        """Its markets by symbol, loaded once unless told to look again; who asks meanwhile waits for the same answer.

        Raises:
            ExchangeError, ExchangeUnavailable: as `klines`.
        """
        if reload or not self._markets:
            if self._loading is None or self._loading.done():
                self._loading = asyncio.create_task(self._load_markets(reload, within_s))
            await asyncio.shield(self._loading)
        return self._markets

    async def volumes(self, within_s: float = WITHIN_S) -> dict[str, float]:
        """Traded in the last day by symbol, in the quote asset; empty where the exchange does not tell all at once.

        Raises:
            ExchangeError, ExchangeUnavailable: as `klines`.
        """
        if self.exchange.has.get("fetchTickers") is not True:
            return {}
        await self.markets(within_s=within_s)
        tickers = await self._asking.answer(self.exchange.fetch_tickers, within_s)
        return {symbol: volume for symbol, ticker in tickers.items() if (volume := _quote_volume(ticker)) is not None}

    @property
    def tells_time(self) -> bool:
        """Whether there is a call for its clock; else the dates of its answers must do, in whole seconds."""
        return self.exchange.has.get("fetchTime") is True

    @property
    def retries(self) -> int:
        """Questions that had to be asked again, so far."""
        return self._asking.retries

    async def close(self) -> None:
        """End its connections, and every question under way at its next try."""
        self._asking.close()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        await self.exchange.close()

    async def _knows(self, symbol: str, timeframe: str, within_s: float) -> None:
        markets = await self.markets(within_s=within_s)
        if symbol not in markets:
            raise unknown(symbol, markets, self.name)
        check_timeframes(self.exchange, timeframe)

    async def _ask_for_little(self, within_s: float) -> None:
        """For the sake of the answer's date; what it says is nothing to us, be it a refusal."""
        symbol = next((market.symbol for market in self._markets.values() if market.active), None)
        if symbol is not None:
            with suppress(ExchangeError):
                timeframe = abilities(self.exchange).timeframes[0]
                await self._asking.answer(lambda: self.exchange.fetch_ohlcv(symbol, timeframe, None, 1), within_s)

    async def _load_markets(self, reload: bool, within_s: float) -> None:
        self._markets = read_markets(await self._asking.answer(lambda: self.exchange.load_markets(reload), within_s))

    async def _raw_bars(
        self, symbol: str, timeframe: str, first_ms: int | None, last_ms: int | None, limit: int
    ) -> list[Kline]:
        span = {"startTime": first_ms, "endTime": last_ms}
        request = {
            "symbol": self.exchange.market(symbol)["id"],
            "interval": self.exchange.timeframes[timeframe],
            "limit": limit,
            **{name: at_ms for name, at_ms in span.items() if at_ms is not None},
        }
        return _bars(await getattr(self.exchange, _RAW[self.name])(request))

    async def _parsed_bars(
        self, symbol: str, timeframe: str, first_ms: int | None, last_ms: int | None, limit: int
    ) -> list[Kline]:
        """Of any exchange; few take an end, so none is given: `limit` rows from the first one on."""
        return _bars(await self.exchange.fetch_ohlcv(symbol, timeframe, first_ms, limit))


def rows_of(exchange: Any) -> int:
    """Rows that one answer of the exchange holds, as far as ccxt knows, and up to `ROWS`."""
    kinds = (("spot", None), ("swap", "linear"))
    limits = [exchange.feature_value_by_type(*kind, "fetchOHLCV", "limit") for kind in kinds]
    known = [int(limit) for limit in limits if limit] or [FEW_ROWS]
    return ROWS if exchange.id in _RAW else min(ROWS, *known)


def _bars(rows: object) -> list[Kline]:
    """Raises ValueError and its like where they are none, which is for `translate`."""
    if not isinstance(rows, list):
        raise TypeError(f"no list of bars but {str(rows)[:80]!r}")
    return [_bar(row) for row in rows if None not in row[:5]]


def _bar(row: Sequence[Any]) -> Kline:
    open_, high, low, close, volume = (float(value) for value in (*row[1:5], row[5] or 0.0))
    if not math.isfinite(open_ + high + low + close + volume):
        raise ValueError(f"a bar without numbers: {row!r}")
    return Kline(int(row[0]), open_, high, low, close, volume)


def _quote_volume(ticker: Mapping[str, Any]) -> float | None:
    quote, base, last = ticker.get("quoteVolume"), ticker.get("baseVolume"), ticker.get("last")
    if quote is not None:
        return float(quote)
    return None if base is None or last is None else float(base) * float(last)
