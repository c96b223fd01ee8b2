"""More frames than a market ever makes, for benchmarks of who reads them.

Enters: a rate. Leaves: unfinished frames on every socket, round and round its streams. Does not know: faults.
"""

from __future__ import annotations

import asyncio
import time

from tests.exchange.exchange import Exchange
from tests.exchange.frames import combined, framed, kline
from tests.exchange.sockets import Connection, Hub
from tests.exchange.world import running

TURN_S = 0.005
UNREAD_BOUND = 2**20
"""A client that leaves so many bytes unread gets no more until it has read: the flood measures, it does not kill."""


async def flood(exchange: Exchange, hub: Hub, frames_a_s: float) -> None:
    """Share the rate among the open sockets for ever."""
    rounds: dict[Connection, tuple[int, list[bytes]]] = {}
    owed, last_s = 0.0, time.monotonic()
    while True:
        await asyncio.sleep(TURN_S)
        now_s = time.monotonic()
        ready = [each for each in hub.connections if each.streams]
        owed = min(owed + (now_s - last_s) * frames_a_s / max(1, len(ready)), frames_a_s)
        last_s, count, owed = now_s, int(owed), owed % 1
        rounds = {each: rounds.get(each, (-1, [])) for each in ready}
        for connection in ready:
            if connection.transport.get_write_buffer_size() > UNREAD_BOUND:
                continue
            key = exchange.slot * 10_000 + len(connection.streams)
            if rounds[connection][0] != key:
                rounds[connection] = (key, _round(exchange, connection))
            frames = rounds[connection][1]
            if not frames:
                continue
            whole, rest = divmod(count, len(frames))
            connection.write(b"".join(frames * whole + frames[:rest]))
            rounds[connection] = (key, frames[rest:] + frames[:rest])
            exchange.counts["flood frames"] += count


def _round(exchange: Exchange, connection: Connection) -> list[bytes]:
    """One unfinished frame of each stream of the base timeframe."""
    frames = []
    base_ms, slot = exchange.options.base_ms, exchange.slot
    for stream in connection.streams:
        number = exchange.number.get(stream.symbol)
        bar = None if number is None else exchange.world.column(slot)[number]
        if number is None or bar is None or stream.interval != exchange.options.timeframe:
            continue
        half, show = running(bar, 0.5), exchange.printer(number)
        event = kline(
            stream.symbol, stream.interval, base_ms, show, slot * base_ms, half, exchange.now_ms, closed=False
        )
        frames.append(framed((combined(stream.name, event) if connection.combined else event).encode()))
    return frames
