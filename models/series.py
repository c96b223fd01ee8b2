"""The identity of a series: exchange, symbol and timeframe, and the grid of time that the timeframe makes.

Enters: names as exchanges and files write them. Leaves: one canonical key. Does not know: any candle.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from models.errors import InvalidMessage

QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "DAI", "USD", "EUR", "GBP", "TRY", "BTC", "ETH", "BNB")
"""Quote assets by which a glued name is cut, longest match first within the order given."""

WEEK_MS = 604_800_000
MONDAY_MS = 345_600_000
"""1970-01-05, the first Monday: weekly bars open on Mondays, while the epoch began on a Thursday."""
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_TIMEFRAME = re.compile(r"([1-9][0-9]{0,3})([smhdw])")


class Series(NamedTuple):
    """One stream of candles, e.g. ``Series("binance", "BTC/USDT", "1m")``."""

    exchange: str
    symbol: str
    timeframe: str

    @property
    def key(self) -> bytes:
        """The Kafka key, ``exchange|symbol|timeframe``."""
        return f"{self.exchange}|{self.symbol}|{self.timeframe}".encode()

    @property
    def timeframe_ms(self) -> int:
        """Length of one bar in milliseconds."""
        return timeframe_ms(self.timeframe)

    def open_of(self, time_ms: int) -> int:
        """Open time of the bar that a time (UTC ms) lies in; weeks begin on Mondays."""
        return time_ms - off_grid_ms(time_ms, self.timeframe_ms)


def parse_key(key: bytes | None) -> Series:
    """Read a Kafka key back into a series.

    Raises:
        InvalidMessage: the key is missing, not UTF-8, has not three parts, or names an unknown timeframe.
    """
    try:
        exchange, symbol, timeframe = (key or b"").decode().split("|")
    except ValueError as error:
        raise InvalidMessage(f"key {key!r} is not exchange|symbol|timeframe") from error
    if not (exchange and symbol):
        raise InvalidMessage(f"key {key!r} has an empty exchange or symbol")
    timeframe_ms(timeframe)
    return Series(exchange, symbol, timeframe)


def timeframe_ms(timeframe: str) -> int:
    """Length of a bar of ``1s 1m 5m 1h 1d 1w`` and their like, in milliseconds.

    Raises:
        InvalidMessage: not a number followed by one of ``s m h d w``.
    """
    match = _TIMEFRAME.fullmatch(timeframe)
    if match is None:
        raise InvalidMessage(f"timeframe {timeframe!r} is not a number followed by one of s m h d w, like 1m or 4h")
    return int(match[1]) * _UNIT_MS[match[2]]


def off_grid_ms(time_ms: int, length_ms: int) -> int:
    """How long before a time (UTC ms) the bar of this length began that it lies in; 0 where one begins just then."""
    return (time_ms - (MONDAY_MS if length_ms % WEEK_MS == 0 else 0)) % length_ms


def timeframe_name(length_ms: int) -> str:
    """The shortest name of a bar length: 60,000 ms is ``1m``, 7,200,000 ms is ``2h``.

    Raises:
        ValueError: the length is not a positive whole number of seconds.
    """
    if length_ms <= 0 or length_ms % 1_000:
        raise ValueError(f"a bar of {length_ms} ms has no name: use a whole number of seconds")
    unit = next(u for u in ("w", "d", "h", "m", "s") if length_ms % _UNIT_MS[u] == 0)
    return f"{length_ms // _UNIT_MS[unit]}{unit}"


def canonical_symbol(name: str) -> str:
    """``BTCUSDT`` becomes ``BTC/USDT`` by the known quotes; a name with a slash is returned as it is.

    Raises:
        ValueError: no known quote ends the name.
    """
    if "/" in name:
        return name
    quote = next((q for q in QUOTES if name.endswith(q) and len(name) > len(q)), None)
    if quote is None:
        raise ValueError(f"symbol {name!r} ends with no known quote asset; write it as BASE/QUOTE")
    return f"{name[: -len(quote)]}/{quote}"
