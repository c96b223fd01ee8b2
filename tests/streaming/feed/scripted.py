"""A websocket server that answers to order, for what the simulated exchange does not do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

from streaming.feed.exchanges import open_exchange
from streaming.settings import ExchangeSettings
from tests.streaming.feed.listening import market

Request = dict[str, Any]


def agreed(request: Request) -> list[object]:
    """What Binance answers."""
    return [{"result": None, "id": request["id"]}]


class Scripted:
    """Remembers what it was asked and by how many; `answer` says what a request is told, `tell` tells everyone."""

    def __init__(self, answer: Callable[[Request], list[object]] = agreed) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.url = ""
        self.pings = 0

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type is WSMsgType.PING:
                self.pings += 1
                await socket.pong(message.data)
                continue
            asked = json.loads(message.data)
            self.requests.append(asked)
            for answer in self.answer(asked):
                await socket.send_str(json.dumps(answer))
        return socket

    async def tell(self, *names: str, data: bytes | None = None) -> None:
        """A running bar of each of these to every open socket, or some bytes."""
        for socket in self.sockets:
            if not socket.closed:
                for name in names:
                    await socket.send_str(json.dumps(bar(name)))
                if data is not None:
                    await socket.send_frame(data, WSMsgType.TEXT)

    @property
    def subscribed(self) -> list[list[str]]:
        """The streams of each SUBSCRIBE."""
        return [asked["params"] for asked in self.requests if asked["method"] == "SUBSCRIBE"]


def bar(name: str) -> dict[str, Any]:
    """A frame of a final bar."""
    kline = {
        "t": 1_700_000_040_000, "s": f"{name}USDT", "i": "1s", "o": "2", "h": "3", "l": "1", "c": "2", "v": "4",
        "x": True,
    }  # fmt: skip
    return {"e": "kline", "E": 1_700_000_041_000, "s": f"{name}USDT", "k": kline}


@asynccontextmanager
async def scripted(script: Scripted) -> AsyncIterator[Scripted]:
    """Serve it on a free port."""
    app = web.Application()
    app.router.add_get("/stream/ws/{number}", script.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield script
    finally:
        for socket in script.sockets:
            if socket._req is not None and (transport := socket._req.transport) is not None:
                transport.abort()
        await asyncio.sleep(0)
        await runner.cleanup()


def opened(url: str, *names: str, **chosen: Any) -> tuple[Any, ExchangeSettings]:
    """Binance at that address, with markets of these names."""
    settings = ExchangeSettings(ws_url=url, **chosen)
    exchange = open_exchange(settings)
    exchange.timeout_on_exit = 1
    exchange.set_markets([exchange.safe_market_structure(market(name)) for name in names])
    return exchange, settings
