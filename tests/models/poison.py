"""Records that can never be used, each with what its dead letter must say (a regular expression)."""

from __future__ import annotations

import json
import math
from typing import Any

from models.events import encode
from tests.models.candle_records import BTC, ETH, MINUTE, START_SLOT, Record, make_absent, make_candle, record_of

CLOSE_MS = START_SLOT * MINUTE
GOOD = encode(make_candle())


def value_with(**fields: Any) -> bytes:
    """The good candle with other JSON values in place of its own; infinities become 1e999."""
    everything: dict[str, Any] = json.loads(GOOD) | fields
    return json.dumps(everything).replace("Infinity", "1e999").encode()


POISON: dict[str, tuple[Record, str]] = {
    "no value": (Record(BTC.key, None), "no value"),
    "empty value": (Record(BTC.key, b""), "not a candle: .*truncated"),
    "not JSON": (Record(BTC.key, b"close=101"), "not a candle: .*malformed"),
    "truncated": (Record(BTC.key, GOOD[:-9]), "not a candle: .*truncated"),
    "two objects": (Record(BTC.key, GOOD + b"," + GOOD), "not a candle: .*malformed"),
    "two objects side by side": (Record(BTC.key, GOOD + GOOD), "not a candle: .*malformed"),
    "two objects on two lines": (Record(BTC.key, GOOD + b"\n" + GOOD), "not a candle: .*malformed"),
    "an array": (Record(BTC.key, b"[" + GOOD + b"]"), "not a candle: Expected `object`, got `array`"),
    "null": (Record(BTC.key, b"null"), "not a candle: Expected `object`, got `null`"),
    "bad UTF-8": (Record(BTC.key, GOOD.replace(b"BTC/USDT", b"BTC\xff\xfe")), "not a candle: 'utf-8' codec"),
    "lone surrogate": (Record(BTC.key, GOOD.replace(b"BTC/USDT", rb"\ud800")), "not a candle: .*surrogate"),
    "byte order mark": (Record(BTC.key, b"\xef\xbb\xbf" + GOOD), "not a candle: .*malformed"),
    "brackets without end": (Record(BTC.key, GOOD[:-1] + b',"x":' + b"[" * 100_000), "not a candle: .*recursion"),
    "another type": (Record(BTC.key, value_with(close="101")), r"not a candle: Expected `float \| null`.*close"),
    "time as a float": (Record(BTC.key, value_with(open_time_ms=1.5)), "not a candle: Expected `int`.*open_time_ms"),
    "missing field": (Record(BTC.key, GOOD.replace(b'"origin":"live",', b"")), "not a candle: .*origin"),
    "unknown origin": (Record(BTC.key, value_with(origin="rumour")), "not a candle: Invalid enum value 'rumour'"),
    "later version": (Record(BTC.key, value_with(v=2)), "schema version 2 is unknown .*upgrade"),
    "later version of other fields": (Record(BTC.key, b'{"v":7,"ohlc":[1,2,0,1],"open":{}}'), "schema version 7 is"),
    "version 0": (Record(BTC.key, value_with(v=0)), "schema version 0 is unknown"),
    "negative version": (Record(BTC.key, value_with(v=-1)), "schema version -1 is unknown"),
    "version as text": (Record(BTC.key, value_with(v="1")), "not a candle: Expected `int`.*v"),
    "NaN": (Record(BTC.key, value_with(close=math.nan)), "not a candle: .*malformed"),
    "1e999": (Record(BTC.key, value_with(high=math.inf)), "not a candle: Number out of range.*high"),
    "huge integer price": (Record(BTC.key, value_with(high=10**400)), "not a candle: Number out of range.*high"),
    "huge integer time": (Record(BTC.key, value_with(close_time_ms=10**30)), "not a candle: .*close_time_ms"),
    "huge revision": (Record(BTC.key, value_with(revision=2**40)), "not a candle: .*revision"),
    "null price": (Record(BTC.key, value_with(low=None)), "null, and it is not marked absent"),
    "null volume": (Record(BTC.key, value_with(volume=None)), "null, and it is not marked absent"),
    "all prices null": (Record(BTC.key, encode(make_absent(absent=False))), "null, and it is not marked absent"),
    "absent with prices": (Record(BTC.key, value_with(absent=True)), "absent, and yet it has prices"),
    "absent with a volume": (Record(BTC.key, encode(make_absent(volume=0.0))), "absent, and yet it has"),
    "negative price": (Record(BTC.key, value_with(low=-1.0)), "prices must be positive: .* low -1.0"),
    "price 0": (Record(BTC.key, value_with(open=0, low=0)), "prices must be positive: open 0.0"),
    "high below low": (Record(BTC.key, value_with(high=99.0)), "high 99.0 is below low 99.25"),
    "open outside": (Record(BTC.key, value_with(open=103.0)), "open 103.0 .*lies outside"),
    "close outside": (Record(BTC.key, value_with(close=99.0)), "close 99.0 lies outside"),
    "price too small": (Record(BTC.key, value_with(low=1e-300)), "low 1e-300 .* leave 1e-15"),
    "price too large": (Record(BTC.key, value_with(high=1e300)), "high 1e.300 leave .* to 1e.15"),
    "negative volume": (Record(BTC.key, value_with(volume=-0.5)), "volume -0.5 is negative"),
    "volume too large": (Record(BTC.key, value_with(volume=1e19)), "volume 1e.19 is .*above 1e.18"),
    "close is not open + timeframe": (
        Record(BTC.key, value_with(close_time_ms=CLOSE_MS + MINUTE)), "close_time_ms is not open_time_ms . 60000"
    ),
    "off the grid": (
        record_of(make_candle(open_time_ms=CLOSE_MS - MINUTE + 1, close_time_ms=CLOSE_MS + 1)), "not on the grid of 1m"
    ),
    "received before its close": (Record(BTC.key, value_with(received_at_ms=CLOSE_MS - 60_001)), "was not closed"),
    "no key": (Record(None, GOOD), "key None is not exchange"),
    "empty key": (Record(b"", GOOD), "key b'' is not exchange"),
    "key of two parts": (Record(b"binance|BTC/USDT", GOOD), "is not exchange.symbol.timeframe"),
    "key that is not UTF-8": (Record(b"\xff|BTC/USDT|1m", GOOD), "is not exchange.symbol.timeframe"),
    "key of another series": (Record(ETH.key, GOOD), "ETH/USDT.*BTC/USDT.*name different series"),
    "key of another timeframe": (Record(b"binance|BTC/USDT|5m", GOOD), "name different series"),
    "unknown timeframe": (Record(b"binance|BTC/USDT|1y", value_with(timeframe="1y")), "timeframe '1y' is not a number"),
    "symbol with a bar": (Record(b"binance|BTC|USDT|1m", value_with(symbol="BTC|USDT")), "is not exchange.symbol"),
}  # fmt: skip
