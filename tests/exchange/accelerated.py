"""An exchange inside a test, twenty times as fast as the world: a bar of a second takes 50 ms.

Enters: options. Leaves: requests to it and frames from it. Does not know: what is tested. For tests of the simulator
itself; a client that estimates the exchange's clock needs one that runs at the common speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

import aiohttp
from aiohttp import WSMsgType

from tests.exchange.clock import ExchangeClock
from tests.exchange.options import Options
from tests.exchange.server import Addresses, open_exchange

SPEED = 20
STREAMS = ("btcusdt@kline_1s", "ethusdt@kline_1s", "bnbusdt@kline_1s")
"""All that an exchange of three symbols has."""
PATIENCE_S = 60
"""Only what fails waits so long."""


class Answer(NamedTuple):
    """Of REST."""

    status: int
    headers: dict[str, str]
    body: Any


class Trading:
    """An exchange, and a client's session with it."""

    def __init__(self, addresses: Addresses, session: aiohttp.ClientSession) -> None:
        self.addresses, self.session = addresses, session

    async def get(self, path: str, **query: Any) -> Answer:
        """Ask REST."""
        async with self.session.get(self.addresses.rest + path, params=query) as answer:
            text = await answer.text()
            parsed = json.loads(text) if answer.content_type == "application/json" else text
            return Answer(answer.status, dict(answer.headers), parsed)

    async def klines(self, symbol: str = "BTCUSDT", interval: str = "1s", **query: Any) -> list[list[Any]]:
        """Rows of REST."""
        answer = await self.get("/api/v3/klines", symbol=symbol, interval=interval, **query)
        assert answer.status == 200, answer
        rows: list[list[Any]] = answer.body
        return rows

    async def control(self, path: str, body: dict[str, Any] | None = None, **query: Any) -> Any:
        """Ask the control; with a body it is a command."""
        method = "GET" if body is None else "POST"
        async with self.session.request(method, self.addresses.control + path, json=body, params=query) as answer:
            found = await answer.json()
            assert answer.status == 200, found
            return found

    async def fault(self, name: str, **params: Any) -> int:
        """Begin a fault; the exchange's time (UTC ms) when it began."""
        return int((await self.control("/faults", {"name": name, **params}))["at_ms"])

    async def clear(self) -> None:
        """End all faults."""
        await self.control("/clear", {})

    async def pass_bars(self, number: int) -> None:
        """Wait until so many bars of a second have passed."""
        end = int(await self.time_ms()) + 1_000 * number
        async with asyncio.timeout(PATIENCE_S):
            while await self.time_ms() < end:
                pass

    async def time_ms(self) -> int:
        """The exchange's time."""
        return int((await self.control("/log"))["now_ms"])

    @contextlib.asynccontextmanager
    async def socket(self, *streams: str, path: str = "/stream") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A websocket subscribed to streams."""
        async with self.session.ws_connect(self.addresses.ws + path, autoping=False) as websocket:
            if streams:
                await websocket.send_json({"method": "SUBSCRIBE", "params": list(streams), "id": 1})
                assert json.loads((await websocket.receive(PATIENCE_S)).data) == {"result": None, "id": 1}
            yield websocket


@contextlib.asynccontextmanager
async def trading(*, speed: float = SPEED, **options: Any) -> AsyncIterator[Trading]:
    """An accelerated exchange of three symbols, unless told otherwise; with speed 0 its clock stands still."""
    clock = ExchangeClock(options.get("skew_ms", 0), monotonic=lambda: time.monotonic() * speed)
    chosen = Options(**({"symbols": 3, "history": 200} | options))
    async with open_exchange(chosen, clock) as addresses, aiohttp.ClientSession() as session:
        yield Trading(addresses, session)


async def candles(
    websocket: aiohttp.ClientWebSocketResponse, enough: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """The bars (`k`) of the frames that come until there are enough.

    Raises:
        TimeoutError: there never were.
    """
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_S):
        while not found or not enough(found):
            message = await websocket.receive()
            assert message.type == WSMsgType.TEXT, message
            event = json.loads(message.data)
            found.append(event.get("data", event)["k"])
    return found


async def heard(websocket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """The bars that have come already."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(TimeoutError):
        while True:
            event = json.loads((await websocket.receive(0.05)).data)
            found.append(event.get("data", event)["k"])
    return found


def closed(bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The finished ones."""
    return [bar for bar in bars if bar["x"]]


def opened_after(begun_ms: int, number: int) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether so many bars are finished that opened after a time: what was sent before it may still lie in between."""
    return lambda bars: len([bar for bar in closed(bars) if bar["t"] > begun_ms]) >= number


def count_closed(number: int) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether so many bars are finished."""
    return lambda bars: len(closed(bars)) >= number


async def ending(websocket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    """The message with which a connection ends."""
    async with asyncio.timeout(PATIENCE_S):
        while (message := await websocket.receive()).type in {WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG}:
            pass
    return message


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run one test's story to its end."""
    asyncio.run(asyncio.wait_for(work, 110))
