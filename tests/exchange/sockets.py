"""The websocket side: one `Connection` a client, and the `Hub` that knows who subscribed to what.

Enters: requests and pings of clients. Leaves: answers, and bytes that the broadcast hands over. Does not know: bars.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import deque
from typing import Any, cast

from aiohttp import WSMsgType, web

from tests.exchange.exchange import Exchange
from tests.exchange.frames import CLOSE_FRAME, PING_FRAME, combined, framed
from tests.exchange.intervals import Stream, parse_stream

WRITE_BOUND = 16 * 2**20
"""Bytes a client may leave unread before it is dropped."""
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


class Hub:
    """Every open connection, and the subscribers of every stream."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.subscribers: dict[Stream, set[Connection]] = {}
        self.version = 0  # grows with every subscription

    def subscribe(self, connection: Connection, stream: Stream) -> None:
        """Idempotent."""
        self.version += 1
        connection.streams[stream] = None
        self.subscribers.setdefault(stream, set()).add(connection)

    def unsubscribe(self, connection: Connection, stream: Stream) -> None:
        """Idempotent."""
        connection.streams.pop(stream, None)
        found = self.subscribers.get(stream, set())
        found.discard(connection)
        if not found:
            self.subscribers.pop(stream, None)

    def go_away(self) -> None:
        """Close every connection, as an exchange that shuts down."""
        for connection in list(self.connections):
            connection.go_away()

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        for stream in list(connection.streams):
            self.unsubscribe(connection, stream)
        self.connections.discard(connection)


class Connection:
    """One client's websocket."""

    def __init__(self, exchange: Exchange, hub: Hub, request: web.Request, websocket: web.WebSocketResponse) -> None:
        self._exchange, self._hub, self._websocket = exchange, hub, websocket
        self.transport = cast(asyncio.Transport, request.transport)
        self.combined = "stream" in request.path.split("/")
        self.opened_s = self.heard_s = time.monotonic()
        self.streams: dict[Stream, None] = {}  # in order of subscription
        self.warned = False  # serverShutdown was said
        self._arrivals: deque[float] = deque(maxlen=5 if exchange.options.spot else 10)
        for name in _named(request):
            stream = parse_stream(name)
            if stream:
                hub.subscribe(self, stream)

    def write(self, data: bytes) -> None:
        """Hand bytes to the network; a client that does not read is dropped."""
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() > WRITE_BOUND:
            self._exchange.note("slow client dropped")
            self.kill()
            return
        self.transport.write(data)

    def say(self, text: str) -> None:
        """Send one text frame."""
        self.write(framed(text.encode()))

    def shut_down_soon(self) -> None:
        """Tell of the end, as a server does before it goes."""
        event = json.dumps({"e": "serverShutdown", "E": self._exchange.now_ms}, separators=(",", ":"))
        self.say(combined("!serverShutdown", event) if self.combined else event)
        self.warned = True

    def ping(self) -> None:
        """Ping as a server does, with the time; a pong shows that the client lives."""
        self.write(framed(str(self._exchange.now_ms).encode(), PING_FRAME))

    def kill(self) -> None:
        """Reset the connection without a word."""
        reset(self.transport)

    def go_away(self) -> None:
        """Close with code 1001 without waiting for an answer."""
        self.write(framed((1001).to_bytes(2, "big"), CLOSE_FRAME))
        self.transport.close()

    async def close(self, code: int, reason: bytes = b"") -> None:
        """Close in order."""
        await self._websocket.close(code=code, message=reason)

    async def serve(self) -> None:
        """Answer until the client is gone."""
        async for message in self._websocket:
            self.heard_s = time.monotonic()
            if message.type != WSMsgType.PONG and self._too_fast():
                await self.close(1008, b"Too many requests")
                return
            if message.type == WSMsgType.PING:
                await self._answer_ping(message.data)
            elif message.type == WSMsgType.TEXT:
                self._answer(message.data)

    def quiet(self, name: str) -> bool:
        """Whether `no_pongs` or `stall_with_pongs` is meant for this connection."""
        fault = self._exchange.fault(name)
        return fault is not None and (not fault.params["old_only"] or self.opened_s < fault.since_s)

    @property
    def dead(self) -> bool:
        """Whether nothing at all comes from the exchange."""
        fault = self._exchange.fault("no_pongs")
        return fault is not None and fault.params["silent"] and self.quiet("no_pongs")

    def _too_fast(self) -> bool:
        """More than 5 (10 on USD-M) messages within a second. Source: Binance's websocket limits."""
        now_s = time.monotonic()
        full = len(self._arrivals) == self._arrivals.maxlen
        fast = full and now_s - self._arrivals[0] < 1
        self._arrivals.append(now_s)
        return fast

    async def _answer_ping(self, data: bytes) -> None:
        if self.quiet("no_pongs"):
            self._exchange.counts["fault no_pongs"] += 1
            return
        self._exchange.counts["pongs"] += 1
        await self._websocket.pong(data)

    def _answer(self, text: str) -> None:
        self._exchange.counts["websocket requests"] += 1
        if self.dead:
            return
        try:
            request = json.loads(text)
        except ValueError:
            self._refuse(3, "Invalid JSON: expected value at line 1 column 1", None)
            return
        if not isinstance(request, dict):
            self._refuse(2, "Invalid request: request must be an object", None)
            return
        self._obey(request)

    def _obey(self, request: dict[str, Any]) -> None:
        number, method, params = request.get("id"), request.get("method"), request.get("params", [])
        if method not in METHODS:
            known = ", ".join(f"`{name}`" for name in METHODS)
            self._refuse(2, f"Invalid request: unknown variant `{method}`, expected one of {known}", number)
        elif method == "LIST_SUBSCRIPTIONS":
            self._reply([stream.name for stream in self.streams], number)
        elif method in {"SET_PROPERTY", "GET_PROPERTY"}:
            self._property(method, params, number)
        elif not isinstance(params, list) or not all(isinstance(name, str) for name in params):
            self._refuse(2, "Invalid request: params must be an array of strings", number)
        elif method == "SUBSCRIBE":
            self._subscribe(params, number)
        else:
            for name in params:
                stream = parse_stream(name)
                if stream:
                    self._hub.unsubscribe(self, stream)
            self._reply(None, number)

    def _subscribe(self, names: list[str], number: Any) -> None:
        streams = [parse_stream(name) for name in names]
        struck = self._exchange.strikes("subscribe_error")
        if struck or None in streams or len(self.streams) + len(names) > 1_024:
            self._refuse(2, "Invalid request: invalid stream", number)
            return
        for stream in streams:
            if stream and stream.interval in self._exchange.intervals:
                self._hub.subscribe(self, stream)
        self._exchange.counts["subscriptions"] += len(names)
        self._reply(None, number)

    def _property(self, method: str, params: Any, number: Any) -> None:
        if method == "GET_PROPERTY":
            self._reply(self.combined, number)
        elif isinstance(params, list) and params[:1] == ["combined"] and isinstance(params[-1], bool):
            self.combined = params[1]
            self._reply(None, number)
        else:
            self._refuse(0, f"Unknown property: {params}", number)

    def _reply(self, result: Any, number: Any) -> None:
        self.say(json.dumps({"result": result, "id": number}, separators=(",", ":")))

    def _refuse(self, code: int, message: str, number: Any) -> None:
        self.say(json.dumps({"error": {"code": code, "msg": message}, "id": number}, separators=(",", ":")))


def reset(transport: asyncio.Transport) -> None:
    """End a TCP connection by RST, as a crashed machine or a firewall does."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):  # it ended by itself a moment ago
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _named(request: web.Request) -> list[str]:
    """Streams in the address: `/ws/btcusdt@kline_1m`, `/stream?streams=a/b`."""
    tail = request.path.rsplit("/", 1)[-1]
    return [name for name in [tail, *request.query.get("streams", "").split("/")] if "@" in name]


async def serve_websocket(exchange: Exchange, hub: Hub, request: web.Request) -> web.StreamResponse:
    """One client from handshake to end."""
    if exchange.strikes("ws_503"):
        return web.Response(status=503, text="Service Unavailable")
    websocket = web.WebSocketResponse(autoping=False, compress=False, timeout=2.0)
    await websocket.prepare(request)
    connection = Connection(exchange, hub, request, websocket)
    hub.connections.add(connection)
    exchange.counts["sockets opened"] += 1
    try:
        await connection.serve()
    finally:
        hub.leave(connection)
        exchange.counts["sockets closed"] += 1
    return websocket
