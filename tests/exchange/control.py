"""The control: which faults there are, begin and end them, the truth, and what was served.

Enters: requests of tests. Leaves: JSON. Does not know: what Binance would say.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from aiohttp import web

from tests.exchange.catalogue import CATALOGUE, Fault, read_fault
from tests.exchange.effects import Effects
from tests.exchange.exchange import Exchange
from tests.exchange.sockets import Hub
from tests.exchange.world import Bar


class Control:
    """Routes under `/control`."""

    def __init__(self, exchange: Exchange, hub: Hub, effects: Effects) -> None:
        self._exchange, self._hub, self._effects = exchange, hub, effects

    def add_to(self, app: web.Application) -> None:
        """Serve them."""
        app.router.add_get("/control/faults", self._faults)
        app.router.add_post("/control/faults", self._begin)
        app.router.add_post("/control/clear", self._clear)
        app.router.add_get("/control/truth", self._truth)
        app.router.add_get("/control/log", self._log)

    async def _faults(self, _: web.Request) -> web.Response:
        known = [{"name": name, "what": kind.sentence, "defaults": kind.defaults} for name, kind in CATALOGUE.items()]
        return _json({"faults": known, "active": [_shown(fault) for fault in self._exchange.faults]})

    async def _begin(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=dict[str, Any])
            fault = read_fault(asked, time.monotonic())
            self._effects.begin(fault)
        except (ValueError, TypeError) as error:
            return _json({"error": str(error)}, status=400)
        return _json(_shown(fault) | {"at_ms": self._exchange.now_ms})

    async def _clear(self, request: web.Request) -> web.Response:
        """Of one name in `?name=`, or all."""
        self._effects.end(request.query.get("name"))
        return _json({"active": [_shown(fault) for fault in self._exchange.faults], "at_ms": self._exchange.now_ms})

    async def _truth(self, request: web.Request) -> web.Response:
        """Of `?symbol=`, or of all; `timeframe`, `from_ms` and `until_ms` (not included) as wanted."""
        exchange, query = self._exchange, request.query
        timeframe = query.get("timeframe", exchange.options.timeframe)
        if timeframe not in exchange.intervals or query.get("symbol", "") not in {"", *exchange.number}:
            return _json({"error": "no such symbol or timeframe"}, status=400)
        now = exchange.now_ms
        span = (int(query.get("from_ms", 0)), int(query.get("until_ms", now)))
        names = [query["symbol"]] if query.get("symbol") else list(exchange.number)
        symbols = {name: self._told(name, exchange.intervals[timeframe], span, now) for name in names}
        return _json({"timeframe": timeframe, "now_ms": now, "symbols": symbols})

    def _told(self, name: str, length: int, span: tuple[int, int], now: int) -> dict[str, Any]:
        number = self._exchange.number[name]
        told = self._exchange.world.truth(number, length, *span, now)
        return {
            "rows": [self._row(number, *pair) for pair in told.rows],
            "absent": told.absent,
            "revised": [self._row(number, *pair) for pair in told.revised],
        }

    def _row(self, number: int, open_ms: int, bar: Bar) -> list[float]:
        """Open time, open, high, low, close, volume: the numbers that reading the printed ones gives."""
        item = self._exchange.world.listings[number]
        prices = [price / 10**item.price_decimals for price in bar[:4]]
        return [open_ms, *prices, bar.volume / 10**item.volume_decimals]

    async def _log(self, _: web.Request) -> web.Response:
        exchange = self._exchange
        streams = sum(len(connection.streams) for connection in self._hub.connections)
        return _json(
            {
                "now_ms": exchange.now_ms,
                "sockets": len(self._hub.connections),
                "streams": streams,
                "counts": dict(exchange.counts),
                "events": list(exchange.events),
            }
        )


def _shown(fault: Fault) -> dict[str, Any]:
    left_s = None if fault.until_s is None else max(0.0, fault.until_s - time.monotonic())
    return {
        "name": fault.name,
        "seconds_left": left_s,
        "symbols": sorted(fault.symbols) if fault.symbols else None,
        **fault.params,
    }


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
