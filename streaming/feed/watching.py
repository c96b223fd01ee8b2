"""One connection to an exchange whose frames only ccxt can read.

Enters: symbols and timeframes. Leaves: bars as ccxt gives them, never called final: the sequencer closes them by REST.
Does not know: frames. Beside `Socket` it is the other `Connection` of line.py.

What `watch_ohlcv` returns may skip updates when many come at once, which costs nothing here, as REST has the last word.
ccxt's keep-alive goes by the wall clock: set forward by an hour it ends a good connection, set back it notices a dead
one an hour late; the line's watchdog, which goes by the loop's clock, replaces it all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from models.kline import Kline
from streaming.feed.errors import ExchangeError, ExchangeUnavailable, translate
from streaming.feed.exchanges import open_exchange
from streaming.feed.frames import sane
from streaming.feed.socket import Surroundings
from streaming.feed.subscriptions import Pair

PAUSE_S = 0.2
"""Between subscriptions; ccxt's own pacing is off. The strictest exchanges take 5 a second."""


class Watching:
    """One ccxt.pro instance, one task a series."""

    def __init__(self, surroundings: Surroundings, poke: asyncio.Event) -> None:
        """Args: `poke` is set when the owner should look at this."""
        self._settings, self._listener = surroundings.settings, surroundings.listener
        self._tally, self._poke = surroundings.tally, poke
        self._loop = asyncio.get_running_loop()
        self._exchange = open_exchange(surroundings.settings, markets_of=surroundings.exchange)
        self._tasks: dict[Pair, asyncio.Task[None]] = {}
        self._first = asyncio.Event()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self.ended.add_done_callback(lambda _: self._poke.set())
        self.pairs: set[Pair] = set()
        self.refused: dict[Pair, str] = {}
        self.opened_at = self.heard_at = self._loop.time()
        self.announced_end: str | None = None

    async def open(self, pairs: Sequence[Pair]) -> None:
        """Subscribe, and wait for the first bar, or for as long as an answer may take.

        Raises:
            ExchangeUnavailable: the connection ended before.
        """
        await self.subscribe(pairs)
        first = self._loop.create_task(self._first.wait())
        timeout_s = self._settings.request_timeout_s
        either: set[asyncio.Future[Any]] = {first, self.ended}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        if self.ended.done():
            raise ExchangeUnavailable(self.ended.result())

    async def subscribe(self, pairs: Sequence[Pair]) -> None:
        """Start to watch these; what the exchange refuses shows later, in `refused`."""
        for pair in pairs:
            if self.ended.done():
                return
            self.pairs.add(pair)
            task = self._tasks[pair] = self._loop.create_task(self._watch(pair))
            task.add_done_callback(self._fault)
            await asyncio.sleep(PAUSE_S)

    async def unsubscribe(self, pairs: Sequence[Pair]) -> None:
        """Watch these no more; the exchange goes on sending them until the connection is replaced."""
        for pair in pairs:
            self.pairs.discard(pair)
            if (task := self._tasks.pop(pair, None)) is not None:
                task.cancel()

    async def close(self) -> None:
        """End the connection, whatever its state."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with suppress(Exception):  # whatever ccxt makes of a connection that is gone
            await self._exchange.close()
        self._end("closed")

    async def _watch(self, pair: Pair) -> None:
        symbol, timeframe = pair
        while True:
            try:
                rows = await self._exchange.watch_ohlcv(symbol, timeframe)
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                self._end("closed")  # ccxt cancels what waits for a connection that it closes
                return
            except Exception as error:
                self._failed(pair, error)
                return
            for row in rows:
                self._tell(pair, row)

    def _failed(self, pair: Pair, error: Exception) -> None:
        error = translate(error, self._exchange.id, "the websocket")
        if isinstance(error, ExchangeError):
            self.pairs.discard(pair)
            self.refused[pair] = str(error)
            self._poke.set()
        else:
            self._end(str(error))

    def _tell(self, pair: Pair, row: Sequence[Any]) -> None:
        try:
            first, high, low, last, volume = (float(number or 0) for number in row[1:6])
            kline = Kline(int(row[0]), first, high, low, last, volume)
        except (IndexError, TypeError, ValueError):
            kline = None
        if kline is None or not sane(kline):
            self._tally.bad_frames += 1
            return
        self._listener.on_kline(*pair, kline)
        self._tally.frames += 1
        self._tally.heard_at = self.heard_at = self._loop.time()
        self._first.set()

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _fault(self, task: asyncio.Task[None]) -> None:
        """What the listener raised ends the process, by way of `ended`."""
        if not task.cancelled() and (error := task.exception()) is not None and not self.ended.done():
            self.ended.set_exception(error)
