"""A small exchange of Binance's shape for tests of REST: one symbol, bars with holes, answers broken to order."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from models.kline import Kline
from streaming.feed.exchanges import open_exchange
from streaming.feed.rest import Rest
from streaming.settings import ExchangeSettings

MINUTE_MS = 60_000
BEGIN_MS = 1_700_000_040_000  # on the grid
SYMBOLS = {"binance": "BTC/USDT", "binanceusdm": "BTC/USDT:USDT"}
PREFIXES = {"binance": "/api/v3", "binanceusdm": "/fapi/v1"}


def open_ms(bar: int) -> int:
    return BEGIN_MS + bar * MINUTE_MS


def kline(bar: int) -> Kline:
    """The truth of a bar."""
    low = 100 + bar % 7 + 0.1
    return Kline(open_ms(bar), low + 0.01, low + 0.07, low, low + 0.03, float(f"{bar % 13}.30000001"))


@dataclass
class VirtualTime:
    """A clock that goes on only while somebody sleeps; sleepers wake in order."""

    now_s: float = 1_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until_s = self.now_s + seconds
        await asyncio.sleep(0)
        self.now_s = max(self.now_s, until_s)


@dataclass
class SmallBinance:
    """Its state. `orders` are served one a request before anything else: (status, headers, body), or None to cut."""

    bars: list[int]
    name: str = "binance"
    clock: Callable[[], float] = lambda: 0.0
    orders: deque[tuple[int, dict[str, str], bytes] | None] = field(default_factory=deque)
    asked: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)  # when, path, query
    used: str | None = None  # what the header says of the weight used

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(PREFIXES[self.name])
        self.asked.append((self.clock(), path, dict(request.query)))
        if self.orders:
            return self._ordered(request, self.orders.popleft())
        answers: dict[str, Callable[[dict[str, str]], Any]] = {
            "/klines": self._klines,
            "/exchangeInfo": lambda query: self._info(),
            "/time": lambda query: {"serverTime": BEGIN_MS},
            "/ticker/24hr": lambda query: [{"symbol": "BTCUSDT", "quoteVolume": "12.5", "lastPrice": "3"}],
        }
        headers = {"X-Mbx-Used-Weight-1m": self.used} if self.used else {}
        return web.json_response(answers[path](dict(request.query)), headers=headers)

    @staticmethod
    def _ordered(request: web.Request, order: tuple[int, dict[str, str], bytes] | None) -> web.StreamResponse:
        if order is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, headers, body = order
        return web.Response(status=status, headers=headers, body=body, content_type="application/json")

    def _klines(self, query: dict[str, str]) -> list[list[Any]]:
        limit = int(query.get("limit", 500))
        first, last = int(query.get("startTime", 0)), int(query.get("endTime", 1 << 60))
        found = [bar for bar in self.bars if first <= open_ms(bar) <= last]
        return [self._row(kline(bar)) for bar in (found[:limit] if "startTime" in query else found[-limit:])]

    @staticmethod
    def _row(bar: Kline) -> list[Any]:
        numbers = [repr(n) for n in (bar.open, bar.high, bar.low, bar.close, bar.volume)]
        return [bar.open_time_ms, *numbers, bar.open_time_ms + MINUTE_MS - 1, "1", 1, "1", "1", "0"]

    def _info(self) -> dict[str, Any]:
        market: dict[str, Any] = {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "filters": [],
        }
        if self.name == "binanceusdm":
            market |= {"contractType": "PERPETUAL", "marginAsset": "USDT", "deliveryDate": 4_133_404_800_000}
        return {"symbols": [market]}


@asynccontextmanager
async def serving(server: SmallBinance) -> AsyncIterator[str]:
    """Its address while it runs."""
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(server: SmallBinance, time: VirtualTime | None = None, **settings: Any) -> AsyncIterator[Rest]:
    """A `Rest` of that server, with its markets loaded; on virtual time where one is given."""
    async with serving(server) as url:
        chosen = ExchangeSettings(name=server.name, rest_url=url, **settings)
        own_time: dict[str, Any] = {"clock": time, "sleep": time.sleep} if time else {}
        exchange = open_exchange(chosen)
        exchange.timeout_on_exit = 1
        rest = Rest(exchange, chosen, **own_time)
        try:
            await rest.markets()
            yield rest
        finally:
            await rest.close()


def body(code: int, text: str) -> bytes:
    return json.dumps({"code": code, "msg": text}).encode()


def truth(bars: Iterable[int]) -> list[Kline]:
    return [kline(bar) for bar in bars]
