"""A ccxt exchange by hand, without a network: what other exchanges than Binance do with `since` and `limit`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Literal

MINUTE_MS = 60_000
SYMBOL = "ETH/EUR"
Manner = Literal["rows", "stretch", "newest"]


class FakeExchange:
    """Answers candles in one of the manners that exchanges have.

    `rows`: so many rows from `since` on, wherever they are. `stretch`: the rows of so many bars from `since` on.
    `newest`: the newest rows, of those from `since` on.
    """

    def __init__(self, bars: Collection[int], manner: Manner = "rows", limit: int = 10, name: str = "fake") -> None:
        self.id = name
        self.has = {"fetchOHLCV": True, "fetchTime": False, "fetchTickers": False}
        self.timeframes = {"1m": "1m"}
        self.rateLimit = 100
        self.markets: dict[str, Any] = {}
        self.fetched: list[str] = []
        self.during: Callable[[], None] = lambda: None
        self.under_way = self.most_under_way = 0
        self._bars, self._manner, self._limit = sorted(bars), manner, limit

    def feature_value_by_type(self, kind: str, sub: str | None, method: str, key: str) -> int | None:
        return self._limit if (kind, method, key) == ("spot", "fetchOHLCV", "limit") else None

    async def load_markets(self, reload: bool = False) -> dict[str, Any]:
        self.markets = {SYMBOL: {"id": "ETHEUR", "base": "ETH", "quote": "EUR", "type": "spot", "active": True}}
        return self.markets

    async def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int) -> list[list[float]]:
        await self.fetch(f"http://fake/{symbol}")
        first, limit = (since or 0) // MINUTE_MS, min(limit, self._limit)
        found = [bar for bar in self._bars if bar >= first]
        if self._manner == "stretch":
            found = [bar for bar in found if bar < first + limit]
        found = found[-limit:] if self._manner == "newest" else found[:limit]
        return [[bar * MINUTE_MS, 1.0, 2.0, 0.5, 1.5, float(bar)] for bar in found]

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> None:
        self.fetched.append(url)
        self.during()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(3):
            await asyncio.sleep(0)
        self.under_way -= 1

    def on_rest_response(self, *args: Any) -> Any:
        raise AssertionError("there is no answer of HTTP here")

    async def close(self) -> None:
        """Nothing is open."""
