"""Reads what exchanges send on their websockets, trusting none of it.

Enters: one message as bytes. Leaves: the bars in it, or what else it was. Does not know: sockets, and who asked.

ccxt's own parse drops the word of the exchange that a bar is final (`x`, `confirm`) and costs five times as much, so
the exchanges below are read here; every other one is read by ccxt (`watching.py`) and its bars are closed by REST.
Prices must be those of REST to the last digit: both are the correctly rounded double of the same decimal text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from models.kline import Kline
from models.sequencing import has_sound_prices

MAX_MS = 2**53
"""Greater numbers are no times."""


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One bar and whose it is, in the exchange's words."""

    market: str  # the exchange's id: BTCUSDT
    interval: str  # the exchange's name: 1m, or 1 at Bybit
    kline: Kline
    event_ms: int  # the exchange's clock when it sent this, UTC


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the exchange says to a request of ours."""

    request: str | None  # its id; none: the exchange does not say which
    objection: str | None  # none: agreed


class Ending(msgspec.Struct, frozen=True, gc=False):
    """The exchange is about to close this connection."""

    reason: str


class Garbage(msgspec.Struct, frozen=True, gc=False):
    """Nothing that can be used."""

    reason: str


Frame = list[Bar] | Answer | Ending | Garbage
"""An empty list is a message that is well-formed and concerns nobody."""


@dataclass(frozen=True)
class Dialect:
    """How one exchange speaks."""

    read: Callable[[bytes], Frame]
    batch: int  # streams named in one SUBSCRIBE
    pause_s: float  # between messages to the exchange
    own_ping: bool = False  # wants pings of its own making besides those of the protocol


class _Kline(msgspec.Struct, gc=False):
    t: int
    s: str
    i: str
    o: float
    h: float
    l: float  # noqa: E741 - Binance's name
    c: float
    v: float
    x: bool


class _InverseKline(_Kline, gc=False):
    v: float = msgspec.field(name="q")  # `v` counts contracts; the base asset is in `q`, as REST has it


class _Event(msgspec.Struct, gc=False):
    e: str = ""
    E: int = 0
    k: _Kline | None = None


class _InverseEvent(_Event, gc=False):
    k: _InverseKline | None = None


class _Said(msgspec.Struct, gc=False):
    """All that is no bar: answers, objections, announcements."""

    id: int | str | None = None
    e: str = ""
    E: int = 0
    code: int | str | None = None
    msg: str | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Message(_Said, gc=False):
    k: _Kline | None = None
    data: _Event | None = None


class _InverseMessage(_Said, gc=False):
    k: _InverseKline | None = None
    data: _InverseEvent | None = None


class _BybitKline(msgspec.Struct, gc=False):
    start: int
    interval: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    confirm: bool
    timestamp: int


class _BybitInverseKline(_BybitKline, gc=False):
    volume: float = msgspec.field(name="turnover")


class _BybitSaid(msgspec.Struct, gc=False):
    topic: str = ""
    op: str = ""
    success: bool = True
    ret_msg: str = ""
    req_id: int | str | None = None


class _BybitMessage(_BybitSaid, gc=False):
    data: list[_BybitKline] = []


class _BybitInverseMessage(_BybitSaid, gc=False):
    data: list[_BybitInverseKline] = []


def _binance(message_type: type[Any]) -> Callable[[bytes], Frame]:
    """A reader of Binance's frames, bare or wrapped as ``{"stream", "data"}``."""
    decode = msgspec.json.Decoder(message_type, strict=False).decode  # not strict: numbers come as text

    def read(data: bytes) -> Frame:
        try:
            message = decode(data)
        except (ValueError, RecursionError) as error:  # msgspec's and UTF-8's errors are ValueErrors
            return Garbage(str(error))
        event = message.data or message
        k = event.k
        if k is None:
            return _binance_said(event if message.data else message, message)
        kline = Kline(k.t, k.o, k.h, k.l, k.c, k.v, k.x)
        if sane(kline) and 0 < event.E < MAX_MS:
            return [Bar(k.s, k.i, kline, event.E)]
        return Garbage(f"no bar of {k.s} could be so: {kline}")

    return read


def _binance_said(event: Any, message: _Said) -> Frame:
    if event.e == "serverShutdown":
        return Ending(event.e)
    if event.e:
        return Garbage("a kline event without its bar") if event.e == "kline" else []
    request = None if message.id is None else str(message.id)
    error = bytes(message.error).decode(errors="replace")
    if error != "null":
        return Answer(request, error)
    if message.code is not None:  # 0 is "unknown property"
        return Answer(request, f"{message.code} {message.msg}")
    return [] if request is None else Answer(request, None)


def _bybit(message_type: type[Any]) -> Callable[[bytes], Frame]:
    """A reader of Bybit's frames (version 5)."""
    decode = msgspec.json.Decoder(message_type, strict=False).decode

    def read(data: bytes) -> Frame:
        try:
            message = decode(data)
        except (ValueError, RecursionError) as error:
            return Garbage(str(error))
        if not message.topic.startswith("kline."):
            return _bybit_said(message)
        market = message.topic.rsplit(".", 1)[-1]
        bars = [
            Bar(market, k.interval, Kline(k.start, k.open, k.high, k.low, k.close, k.volume, k.confirm), k.timestamp)
            for k in message.data
        ]
        if all(sane(bar.kline) and 0 < bar.event_ms < MAX_MS for bar in bars):
            return bars
        return Garbage(f"no bars of {market} could be so: {bars}")

    return read


def _bybit_said(message: _BybitSaid) -> Frame:
    if message.op in {"subscribe", "unsubscribe"} or not message.success:
        request = None if message.req_id is None else str(message.req_id)
        return Answer(request, None if message.success else message.ret_msg or "refused without a word")
    return []


def sane(kline: Kline) -> bool:
    """Whether numbers are those of a bar."""
    return has_sound_prices(kline) and 0 <= kline.open_time_ms < MAX_MS


BINANCE = Dialect(_binance(_Message), batch=150, pause_s=0.25)
"""Binance takes 5 messages a second on spot (10 on USD-M), pings included, and 1,024 streams a connection."""
BINANCE_INVERSE = Dialect(_binance(_InverseMessage), batch=150, pause_s=0.25)
BYBIT = Dialect(_bybit(_BybitMessage), batch=10, pause_s=0.1, own_ping=True)
"""Bybit takes 10 topics a request on spot, and wants a ping every 20 s."""
BYBIT_INVERSE = Dialect(_bybit(_BybitInverseMessage), batch=10, pause_s=0.1, own_ping=True)
DIALECTS = {
    "binance": (BINANCE, BINANCE_INVERSE),
    "binanceus": (BINANCE, BINANCE_INVERSE),
    "binanceusdm": (BINANCE, BINANCE_INVERSE),
    "binancecoinm": (BINANCE, BINANCE_INVERSE),
    "bybit": (BYBIT, BYBIT_INVERSE),
}
"""By ccxt's id: for markets whose volume is in the base asset, and for inverse ones."""


def dialect_of(exchange: str, kind: str) -> Dialect | None:
    """How an exchange speaks of markets of a kind (spot, linear, inverse ...); none: ccxt must read it."""
    plain, inverse = DIALECTS.get(exchange, (None, None))
    return inverse if kind == "inverse" else plain
