"""What faults make of frames on their way to one client: lost, doubled, late, cut, in the company of garbage.

Enters: frames in order. Leaves: the bytes to write now, and those to write later. Does not know: bars, clocks.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.exchange.exchange import Exchange
from tests.exchange.frames import framed
from tests.exchange.intervals import Stream

FRAME_FAULTS = frozenset(("garbage", "stall_with_pongs", "duplicate", "reorder", "drop", "truncated_json"))
NO_JSON = framed(b"\x1b[31mupstream connect error or disconnect/reset before headers")
NO_FRAME = b"\xff\xff\xff\xffHTTP/1.1 400 Bad Request\r\n\r\n"


class Sending(NamedTuple):
    """One frame to a client."""

    stream: Stream
    data: bytes  # with the websocket's framing


class Late(NamedTuple):
    """Bytes that are to be written after a while."""

    after_s: float
    data: bytes


def disturbed(exchange: Exchange, frames: list[Sending], *, stalled: bool) -> tuple[bytes, list[Late]]:
    """Pass frames through every fault at work; `stalled`: a stall may strike this client."""
    now: list[bytes] = []
    later: list[Late] = []
    for frame in frames:
        symbol = frame.stream.symbol
        if (stalled and exchange.strikes("stall_with_pongs", symbol)) or exchange.strikes("drop", symbol):
            continue
        data = _cut(exchange, frame)
        slow = exchange.strikes("reorder", symbol)
        if slow:
            later.append(Late(exchange.random.random() * slow.params["delay_s"], data))
        else:
            now.append(data)
        if exchange.strikes("duplicate", symbol):
            now.append(data)
        junk = exchange.strikes("garbage", symbol)
        if junk:
            now.append(NO_FRAME if junk.params["wire"] else NO_JSON)
    return b"".join(now), later


def _cut(exchange: Exchange, frame: Sending) -> bytes:
    fault = exchange.strikes("truncated_json", frame.stream.symbol)
    if fault is None:
        return frame.data
    if exchange.random.random() < fault.params["utf8"]:
        return framed(b'{"e":"kline","s":"\xff\xfe\xfd"}')
    payload = frame.data[4:]  # a frame of candles has 126 to 65,535 bytes, so 4 of header
    return framed(exchange.random.choice((b"[]", payload[: len(payload) // 2], payload[:-1])))
