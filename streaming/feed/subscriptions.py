"""What to say to an exchange so that it tells of bars: the address and the words, as ccxt knows them.

Enters: symbols and timeframes. Leaves: requests ready to be sent, and the names under which the bars will come. Does
not know: connections; ccxt is stopped at the moment when it would open one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from streaming.feed.errors import ExchangeUnavailable

Pair = tuple[str, str]
"""A unified symbol and a timeframe: ``("BTC/USDT", "1m")``."""
ID_FIELDS = ("id", "req_id")


class Request(NamedTuple):
    """One message for an exchange."""

    url: str
    id: str  # its answer will carry it
    text: str


class Subscriptions:
    """Asks one ccxt.pro exchange, with markets loaded, what it would send. It opens no socket itself from then on."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        exchange.watch_multiple = _stop  # where ccxt would connect, send and wait

    def kind(self, pair: Pair) -> str | None:
        """What shares a connection: spot, linear, inverse ...; none: there is no such market, or no such timeframe."""
        symbol, timeframe = pair
        market = (self._exchange.markets or {}).get(symbol)
        if market is None or timeframe not in (self._exchange.timeframes or {}):
            return None
        return str(market.get("subType") or market["type"])

    def name(self, pair: Pair) -> Pair:
        """The market and the interval as frames will name them: ``("BTCUSDT", "1m")``."""
        symbol, timeframe = pair
        return str(self._exchange.markets[symbol]["id"]), str(self._exchange.timeframes[timeframe])

    async def subscribe(self, pairs: Sequence[Pair]) -> Request:
        """The request for bars; all symbols must be of one kind.

        Raises:
            ExchangeUnavailable: ccxt cannot make one: a market went away while this was under way.
        """
        return await self._said(self._exchange.watch_ohlcv_for_symbols, pairs)

    async def unsubscribe(self, pairs: Sequence[Pair]) -> Request:
        """The request that ends them."""
        return await self._said(self._exchange.un_watch_ohlcv_for_symbols, pairs)

    def ping(self) -> str:
        """A ping in the exchange's own words."""
        return _text(self._exchange.ping(None))

    async def _said(self, call: Any, pairs: Sequence[Pair]) -> Request:
        try:
            await call([list(pair) for pair in pairs])
        except _Stopped as stopped:
            return stopped.request
        except Exception as error:
            raise ExchangeUnavailable(
                f"ccxt cannot ask {self._exchange.id} for {len(pairs)} series: {error}"
            ) from error
        raise RuntimeError(f"ccxt's {call.__name__} of {self._exchange.id} no longer goes through watch_multiple")


class _Stopped(Exception):  # noqa: N818 - not an error
    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


def _stop(url: str, hashes: Any, message: Any = None, subscribe_hashes: Any = None, subscription: Any = None) -> None:
    number = next(message[field] for field in ID_FIELDS if field in message)
    raise _Stopped(Request(url, str(number), _text(message)))


def _text(message: Any) -> str:
    return msgspec.json.encode(message).decode()
