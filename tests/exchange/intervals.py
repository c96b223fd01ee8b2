"""The names of bar lengths, and of the streams of bars.

Enters: text from a client. Leaves: milliseconds and symbols. Does not know: what exists.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from models.series import timeframe_ms

INTERVALS = ("1s", "5s", "15s", "30s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
"""Binance's, and some of seconds, so that an accelerated exchange has higher timeframes that pass quickly."""
LENGTH_MS = {name: timeframe_ms(name) for name in INTERVALS}
_STREAM = re.compile(r"([a-z0-9]{2,30})@kline_([0-9]{1,2}[smhd])")


class Stream(NamedTuple):
    """One subscription, e.g. `btcusdt@kline_1m`."""

    symbol: str  # BTCUSDT
    interval: str

    @property
    def name(self) -> str:
        """As clients write it."""
        return f"{self.symbol.lower()}@kline_{self.interval}"


def served(base_ms: int) -> dict[str, int]:
    """The intervals that can be made of bars of a base length, and their lengths."""
    return {name: length for name, length in LENGTH_MS.items() if length % base_ms == 0}


def parse_stream(name: str) -> Stream | None:
    """A stream of bars; none if it is no such name. A symbol that does not exist is Binance's to accept."""
    match = _STREAM.fullmatch(name)
    return Stream(match[1].upper(), match[2]) if match and match[2] in LENGTH_MS else None
