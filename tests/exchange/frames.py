"""Bars as bytes: kline frames, rows of REST, numbers as Binance prints them, and the websocket's own framing.

Enters: bars in whole units. Leaves: bytes ready for a socket. Does not know: who gets them, nor the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.exchange.listing import Listing
from tests.exchange.world import Bar

TEXT, CLOSE_FRAME, PING_FRAME = 0x81, 0x88, 0x89


@dataclass(frozen=True)
class Printer:
    """How one symbol's numbers are written: eight decimals on spot, the symbol's own on USD-M."""

    price_decimals: int
    volume_decimals: int
    spot: bool

    @property
    def quote_decimals(self) -> int:
        """Of a quote volume, which is a product."""
        return self.price_decimals + self.volume_decimals

    def price(self, number: int) -> str:
        """`0.35270000` on spot, `1.0100` on USD-M."""
        return decimal(number, self.price_decimals, 8 if self.spot else self.price_decimals)

    def volume(self, number: int) -> str:
        """`25877.00000000` on spot, `3917` on USD-M."""
        return decimal(number, self.volume_decimals, 8 if self.spot else self.volume_decimals)

    def quote(self, number: int) -> str:
        """`9116.04600000` on spot, `3957.89900` on USD-M."""
        return decimal(number, self.quote_decimals, 8 if self.spot else self.quote_decimals)


@cache
def printer(listing: Listing, spot: bool) -> Printer:
    """The printer of a symbol."""
    return Printer(listing.price_decimals, listing.volume_decimals, spot)


def decimal(number: int, decimals: int, shown: int) -> str:
    """A whole number of 10^-decimals with so many decimals shown; what does not fit is cut.

    >>> decimal(352700, 6, 8), decimal(5, 0, 0), decimal(12345678, 9, 8)
    ('0.35270000', '5', '0.01234567')
    """
    if shown < decimals:
        number //= 10 ** (decimals - shown)
    else:
        number *= 10 ** (shown - decimals)
    if not shown:
        return str(number)
    digits = f"{number:0{shown + 1}d}"
    return f"{digits[:-shown]}.{digits[-shown:]}"


def taker(number: int, bar: Bar) -> int:
    """The part of a volume that takers bought; files do not tell it, so it is made up."""
    return number * (1 + bar.first_id % 7) // 8


def kline(
    name: str, interval: str, length_ms: int, show: Printer, open_ms: int, bar: Bar, event_ms: int, closed: bool
) -> str:
    """One kline event, without the envelope of a combined stream."""
    first, last = (bar.first_id, bar.first_id + bar.trades - 1) if bar.trades else (-1, -1)
    return (
        f'{{"e":"kline","E":{event_ms},"s":"{name}","k":{{"t":{open_ms},"T":{open_ms + length_ms - 1},"s":"{name}",'
        f'"i":"{interval}","f":{first},"L":{last},"o":"{show.price(bar.open)}","c":"{show.price(bar.close)}",'
        f'"h":"{show.price(bar.high)}","l":"{show.price(bar.low)}","v":"{show.volume(bar.volume)}","n":{bar.trades},'
        f'"x":{"true" if closed else "false"},"q":"{show.quote(bar.quote)}",'
        f'"V":"{show.volume(taker(bar.volume, bar))}","Q":"{show.quote(taker(bar.quote, bar))}","B":"0"}}}}'
    )


def row(length_ms: int, show: Printer, open_ms: int, bar: Bar) -> list[Any]:
    """One row of `klines`."""
    prices = [show.price(number) for number in bar[:4]]
    bought = [show.volume(taker(bar.volume, bar)), show.quote(taker(bar.quote, bar))]
    end = open_ms + length_ms - 1
    return [open_ms, *prices, show.volume(bar.volume), end, show.quote(bar.quote), bar.trades, *bought, "0"]


def combined(stream: str, event: str) -> str:
    """An event in the envelope of `/stream`."""
    return f'{{"stream":"{stream}","data":{event}}}'


def framed(payload: bytes, kind: int = TEXT) -> bytes:
    """One unmasked websocket frame, as a server sends it. Source: RFC 6455, section 5.2."""
    size = len(payload)
    if size < 126:
        return bytes((kind, size)) + payload
    if size < 65_536:
        return bytes((kind, 126)) + size.to_bytes(2, "big") + payload
    return bytes((kind, 127)) + size.to_bytes(8, "big") + payload
