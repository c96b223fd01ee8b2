"""The exchange's port, which faults can shut and open again.

Enters: the server behind it. Leaves: connections, refusals or resets. Does not know: what is spoken.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Any, Literal

from aiohttp import web

from tests.exchange.sockets import Hub, reset

HOST = "127.0.0.1"
ATTEMPTS = 100


class _Reset(asyncio.Protocol):
    """Accepts a connection and throws it away."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            reset(transport)


class ExchangeDoor:
    """One port, the same for as long as the exchange lives."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._served: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._turns = asyncio.Lock()
        self._wanted: Literal["open", "shut", "reset"] = "open"
        self._turning: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, served: web.Server, port: int) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._served, self.port = served, port
        await self._turn()

    def shut(self, *, reset_later: bool) -> None:
        """Reset the open connections, and refuse new ones; or accept these and reset them at once."""
        self._want("reset" if reset_later else "shut")
        for connection in list(self._hub.connections):
            connection.kill()
        for served in self._served.connections if self._served else ():
            if isinstance(served.transport, asyncio.Transport):
                reset(served.transport)

    def open(self) -> None:
        """Accept connections again."""
        self._want("open")

    async def stop(self) -> None:
        """Close for good."""
        if self._listener is not None:
            self._listener.close()

    def _want(self, state: Literal["open", "shut", "reset"]) -> None:
        self._wanted = state
        if self._listener is not None:
            self._listener.close()  # at once: a refusal must not wait for the event loop
        task = asyncio.create_task(self._turn())
        self._turning.add(task)
        task.add_done_callback(self._turning.discard)

    async def _turn(self) -> None:
        async with self._turns:
            if self._listener is not None:
                self._listener.close()
            if self._wanted != "shut":
                self._listener = await self._listen()
                self.port = self._listener.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        """Take the port, which somebody may have borrowed for a moment while it was shut."""
        factory: Any = _Reset if self._wanted == "reset" else self._served
        loop = asyncio.get_running_loop()
        for _ in range(ATTEMPTS):
            try:
                return await loop.create_server(factory, HOST, self.port, reuse_address=True, backlog=1_024)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not self.port or not self._served:
                    raise
                await asyncio.sleep(0.05)
        raise OSError(errno.EADDRINUSE, f"port {self.port} was taken by somebody else while it was shut")
