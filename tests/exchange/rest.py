"""The REST side: `/api/v3` on spot, `/fapi/v1` on USD-M; weights, error answers, and the faults that strike there.

Enters: requests. Leaves: Binance's answers. Does not know: sockets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from aiohttp import web

from tests.exchange.exchange import Exchange
from tests.exchange.frames import row
from tests.exchange.info import exchange_info, tickers
from tests.exchange.weights import Verdict, Weights
from tests.exchange.world import Bar

Answer = Callable[[Any], web.Response]
_HTML_502 = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>"
TOO_MUCH = (
    "Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API."
)
BANNED = (
    "Way too much request weight used; IP banned until {until}. "
    "Please use WebSocket Streams for live updates to avoid bans."
)


class Refused(Exception):  # noqa: N818  # an answer, not an error of ours
    """An answer other than 200, in Binance's words."""

    def __init__(self, code: int, message: str, status: int = 400, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.body = {"code": code, "msg": message}
        self.status, self.retry_after_s = status, retry_after_s


class Rest:
    """The routes of one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        options = exchange.options
        self._weights = Weights(options.weights_a_minute, int(options.ban_s * 1_000))
        self._prefix = "/api/v3" if options.spot else "/fapi/v1"
        self._infos: tuple[Any, bytes] = (None, b"")
        self._tickers: tuple[Any, list[dict[str, Any]]] = (None, [])

    def routes(self) -> dict[str, tuple[Callable[[web.Request], int], Callable[[web.Request], Any]]]:
        """Path to (weight, answer)."""
        spot = self._exchange.options.spot
        return {
            f"{self._prefix}/ping": (lambda _: 1, lambda _: {}),
            f"{self._prefix}/time": (lambda _: 1, lambda _: {"serverTime": self._exchange.now_ms}),
            f"{self._prefix}/exchangeInfo": (lambda _: 20 if spot else 1, self._info),
            f"{self._prefix}/klines": (self._klines_weight, self._klines),
            f"{self._prefix}/ticker/24hr": (self._ticker_weight, self._ticker),
        }

    def add_to(self, app: web.Application) -> None:
        """Serve the routes."""
        for path, (weigh, answer) in self.routes().items():
            app.router.add_get(path, self._served(weigh, answer))

    def _served(
        self, weigh: Callable[[web.Request], int], answer: Callable[[web.Request], Any]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            verdict = Verdict(200, self._weights.used, 0)
            try:
                late = self._exchange.strikes("rest_hang")
                if late:
                    await asyncio.sleep(late.params["delay_s"])
                self._faults()
                verdict = self._weights.spend(weigh(request), self._exchange.now_ms)
                self._judge(verdict)
                body, status, headers = answer(request), 200, {}
            except Refused as refused:
                body, status = refused.body, refused.status
                headers = {} if refused.retry_after_s is None else {"Retry-After": str(refused.retry_after_s)}
            self._exchange.counts[f"rest {request.path} {status}"] += 1
            headers |= {"Date": formatdate(self._exchange.now_ms / 1_000, usegmt=True)}
            headers |= {"X-MBX-USED-WEIGHT": str(verdict.used), "X-MBX-USED-WEIGHT-1M": str(verdict.used)}
            if isinstance(body, str):
                return web.Response(text=body, status=status, headers=headers, content_type="text/html")
            data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
            return web.Response(
                body=data, status=status, headers=headers, content_type="application/json", charset="UTF-8"
            )

        return serve

    def _faults(self) -> None:
        exchange = self._exchange
        if exchange.strikes("rest_502"):
            page = Refused(0, "", status=502)
            page.body = _HTML_502  # type: ignore[assignment]  # a proxy answers here, and it speaks no JSON
            raise page
        banned = exchange.strikes("rest_418")
        if banned:
            left_s = max(1, round((banned.until_s or 0) - banned.since_s))
            raise Refused(-1003, BANNED.format(until=exchange.now_ms + left_s * 1_000), 418, left_s)
        slower = exchange.strikes("rest_429")
        if slower:
            limit = exchange.options.weights_a_minute
            raise Refused(-1003, TOO_MUCH.format(limit=limit), 429, slower.params["retry_after_s"])

    def _judge(self, verdict: Verdict) -> None:
        if verdict.status == 429:
            raise Refused(-1003, TOO_MUCH.format(limit=self._weights.limit), 429, verdict.retry_after_s)
        if verdict.status == 418:
            raise Refused(-1003, BANNED.format(until=self._weights.banned_until_ms), 418, verdict.retry_after_s)

    def _info(self, request: web.Request) -> bytes:
        exchange = self._exchange
        wanted = _wanted(request)
        for name in wanted or ():
            self._number(name)
        statuses = tuple((name, status) for name in exchange.number if (status := exchange.status(name)) is not None)
        key = (wanted, statuses, exchange.now_ms // 1_000)
        if self._infos[0] != key:
            info = exchange_info(exchange, wanted or [name for name, _ in statuses])
            self._infos = (key, json.dumps(info, separators=(",", ":")).encode())
        return self._infos[1]

    def _ticker_weight(self, request: web.Request) -> int:
        if _wanted(request):
            return 2 if self._exchange.options.spot else 1
        return 80 if self._exchange.options.spot else 40

    def _ticker(self, request: web.Request) -> Any:
        exchange = self._exchange
        wanted = _wanted(request)
        if wanted:
            numbers = [self._number(name) for name in wanted]
            found = tickers(exchange, [exchange.world.listings[number].name for number in numbers])
            return found[0] if "symbol" in request.query else found
        names = [name for name in exchange.number if exchange.status(name) == "TRADING"]
        if self._tickers[0] != (exchange.now_ms // 10_000, names):
            self._tickers = ((exchange.now_ms // 10_000, names), tickers(exchange, names))
        return self._tickers[1]

    def _klines_weight(self, request: web.Request) -> int:
        if self._exchange.options.spot:
            return 2
        limit = int(request.query.get("limit", "500")) if request.query.get("limit", "500").isdigit() else 500
        return next((weight for bound, weight in ((100, 1), (500, 2), (1_001, 5)) if limit < bound), 10)

    def _klines(self, request: web.Request) -> list[Any]:
        exchange, query = self._exchange, request.query
        number = self._number(_mandatory(request, "symbol"))
        length = exchange.intervals.get(_mandatory(request, "interval"))
        if length is None:
            raise Refused(-1120, "Invalid interval.")
        limit = max(1, min(_whole(request, "limit") or 500, 1_000 if exchange.options.spot else 1_500))
        now = exchange.now_ms
        start, end = _whole(request, "startTime"), _whole(request, "endTime")
        rows = exchange.world.rows(number, length, start or 0, now if end is None else min(end, now), now)
        rows = self._as_shown(exchange.world.listings[number].name, rows, length, now)
        rows = rows[:limit] if "startTime" in query else rows[-limit:]
        show = exchange.printer(number)
        return [row(length, show, open_ms, bar) for open_ms, bar in rows]

    def _as_shown(self, name: str, rows: list[tuple[int, Bar]], length: int, now: int) -> list[tuple[int, Bar]]:
        """What lag and late trades make of the rows."""
        lag, unsettled = self._exchange.strikes("rest_lag", name), self._exchange.strikes("unsettled_volume", name)
        if lag:
            rows = [(at, bar) for at, bar in rows if at <= now - now % length - lag.params["rows"] * length]
        if unsettled:
            span = unsettled.params["settle_ms"]
            rows = [
                (at, _unsettled(bar, (now - at - length) / span))
                if at + length <= now < at + length + span
                else (at, bar)
                for at, bar in rows
            ]
        return rows

    def _number(self, name: str) -> int:
        """A symbol's number, if it is in the list."""
        if self._exchange.status(name) is None:
            raise Refused(-1121, "Invalid symbol.")
        return self._exchange.number[name]


def _unsettled(bar: Bar, settled: float) -> Bar:
    """A closed bar whose last trades are still being counted: at least a tenth is missing until all is settled."""
    share = 0.8 + 0.1 * settled
    return bar._replace(volume=int(bar.volume * share), quote=int(bar.quote * share), trades=int(bar.trades * share))


def _wanted(request: web.Request) -> list[str] | None:
    if "symbol" in request.query:
        return [request.query["symbol"]]
    if "symbols" not in request.query:
        return None
    try:
        names = json.loads(request.query["symbols"])
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refused(-1100, "Illegal characters found in parameter 'symbols'; legal range is '^\\[...\\]$'.")
    return names


def _mandatory(request: web.Request, name: str) -> str:
    if not request.query.get(name):
        raise Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return request.query[name]


def _whole(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 16:
        raise Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
    return int(text)
