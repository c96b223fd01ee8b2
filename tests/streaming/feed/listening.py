"""What a feed says, written down; and a feed that runs while a test looks on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from models.kline import Kline
from models.series import Series
from streaming.feed.sockets import Sockets
from streaming.settings import ExchangeSettings


class Heard:
    """A listener that forgets nothing."""

    def __init__(self) -> None:
        self.klines: list[tuple[str, str, Kline]] = []
        self.event_times: list[int] = []
        self.refused: dict[tuple[str, str], str] = {}

    def on_kline(self, symbol: str, timeframe: str, kline: Kline) -> None:
        self.klines.append((symbol, timeframe, kline))

    def on_event_time(self, event_ms: int) -> None:
        self.event_times.append(event_ms)

    def on_refused(self, symbol: str, timeframe: str, reason: str) -> None:
        self.refused[symbol, timeframe] = reason

    def closes(self, symbol: str) -> set[int]:
        """Open times of the final bars of a symbol."""
        return {kline.open_time_ms for name, _, kline in self.klines if name == symbol and kline.closed}

    def symbols_since(self, mark: int) -> set[str]:
        """Who was heard after so many bars."""
        return {name for name, _, _ in self.klines[mark:]}


def market(name: str) -> dict[str, Any]:
    """A spot market against USDT, in ccxt's form."""
    glued = f"{name}USDT"
    return {
        "id": glued, "lowercaseId": glued.lower(), "symbol": f"{name}/USDT", "base": name, "quote": "USDT",
        "type": "spot", "spot": True, "swap": False, "contract": False, "option": False,
    }  # fmt: skip


def series(*names: str, timeframe: str = "1s") -> list[Series]:
    return [Series("binance", f"{name}/USDT", timeframe) for name in names]


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """`eventually` within an event loop."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, f"{condition} did not come true within {timeout_s:g} s"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def listening(exchange: Any, settings: ExchangeSettings, heard: Heard) -> AsyncIterator[Sockets]:
    """A feed that runs; what it raises fails the test."""
    feed = Sockets(exchange, settings, heard, random.Random(1))
    running = asyncio.create_task(feed.run())
    try:
        yield feed
        if running.done():
            running.result()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await exchange.close()
