"""The port of the exchange and the port of its control, as long as they are open.

Enters: options. Leaves: a running exchange and its addresses. Does not know: the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.exchange.broadcast import Broadcast
from tests.exchange.clock import ExchangeClock
from tests.exchange.control import Control
from tests.exchange.door import HOST, ExchangeDoor
from tests.exchange.effects import Effects
from tests.exchange.exchange import Exchange
from tests.exchange.flood import flood
from tests.exchange.options import Options
from tests.exchange.rest import Rest
from tests.exchange.sockets import Hub, serve_websocket


@dataclass(frozen=True)
class Addresses:
    """Where to find it."""

    rest: str
    ws: str
    control: str


@contextlib.asynccontextmanager
async def open_exchange(options: Options, clock: ExchangeClock | None = None) -> AsyncIterator[Addresses]:
    """Run an exchange for the length of a block; whatever breaks in it breaks the block."""
    exchange, hub = Exchange(options, clock), Hub()
    door = ExchangeDoor(hub)
    effects, broadcast = Effects(exchange, hub, door), Broadcast(exchange, hub)
    async with contextlib.AsyncExitStack() as stack:
        runner = web.AppRunner(_exchange_app(exchange, hub), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        await door.start(runner.server, options.port)
        stack.push_async_callback(door.stop)
        control = await _control(stack, Control(exchange, hub, effects))
        work = [broadcast.run(effects.sweep), _pings(effects, options.ping_s)]
        if options.flood:
            work.append(flood(exchange, hub, options.flood))
        stack.callback(hub.go_away)
        await stack.enter_async_context(_beside(work))
        yield Addresses(f"http://{HOST}:{door.port}", f"ws://{HOST}:{door.port}", f"{control}/control")


@contextlib.asynccontextmanager
async def _beside(work: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run endless work beside the block, and end the block with the error of what breaks."""
    block, broken = asyncio.current_task(), list[BaseException]()

    def look(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and block is not None:
            broken.append(error)
            block.cancel()

    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(look)
    try:
        yield
    except asyncio.CancelledError:
        if broken:
            raise broken[0] from None
        raise
    finally:
        for task in tasks:
            task.cancel()


def _exchange_app(exchange: Exchange, hub: Hub) -> web.Application:
    app = web.Application()
    Rest(exchange).add_to(app)

    async def other(request: web.Request) -> web.StreamResponse:
        if {"ws", "stream"} & set(request.path.split("/")) and "Upgrade" in request.headers:
            return await serve_websocket(exchange, hub, request)
        exchange.counts[f"rest {request.path} 404"] += 1
        return web.Response(
            status=404, text="<html><body><h1>404 Not found</h1></body></html>", content_type="text/html"
        )

    app.router.add_get("/{path:.*}", other)
    return app


async def _control(stack: contextlib.AsyncExitStack, control: Control) -> str:
    """Serve the control on a port of its own, which no fault shuts."""
    app = web.Application()
    control.add_to(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    return f"http://{HOST}:{runner.addresses[0][1]}"


async def _pings(effects: Effects, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        effects.ping()
