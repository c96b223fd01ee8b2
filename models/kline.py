"""What an exchange says of one bar: not yet a candle, for it may be unfinished, or finished and still change.

Enters: numbers as an exchange sent them. Leaves: a typed bar, or the reason why it is none. Does not know: which
exchange, and whether it may be published; that is the sequencer's.
"""

from __future__ import annotations

import msgspec


class Kline(msgspec.Struct, frozen=True, gc=False):
    """One bar as heard. Prices in the quote asset, volume in the base asset."""

    open_time_ms: int  # UTC
    open: float
    high: float
    low: float
    close: float
    volume: float
    closed: bool = False  # the exchange's own word that this bar is final; rows of REST never carry it


class Span(msgspec.Struct, frozen=True, gc=False):
    """Bars from one open time to another, both included, UTC milliseconds."""

    first_ms: int
    last_ms: int
