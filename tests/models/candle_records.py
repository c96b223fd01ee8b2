"""Records of `candles` as they lie in Kafka, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, settings

from models.decode import Batch
from models.events import Candle, encode
from models.series import Series

laws = settings(
    derandomize=True,
    deadline=None,  # no test asserts a timing, and a loaded machine is no finding
    suppress_health_check=(HealthCheck.too_slow,),
    max_examples=30,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)


MINUTE = 60_000
BTC = Series("binance", "BTC/USDT", "1m")
ETH = Series("binance", "ETH/USDT", "1m")
START_SLOT = 28_333_334  # in minutes; on no boundary of a block, an hour or a day


class Record(NamedTuple):
    """What lies at one offset of a partition."""

    key: bytes | None
    value: bytes | None
    partition: int = 0


def make_candle(series: Series = BTC, slot: int = START_SLOT, **fields: Any) -> Candle:
    """A valid candle closing at `slot` timeframes after the epoch; `fields` replace any of its own."""
    close_time_ms = slot * series.timeframe_ms
    own: dict[str, Any] = {
        "exchange": series.exchange,
        "symbol": series.symbol,
        "timeframe": series.timeframe,
        "open_time_ms": close_time_ms - series.timeframe_ms,
        "close_time_ms": close_time_ms,
        "open": 100.0,
        "high": 102.5,
        "low": 99.25,
        "close": 101.0,
        "volume": 12.5,
        "origin": "live",
        "received_at_ms": close_time_ms + 250,
    }
    return Candle(**own | fields)


def make_absent(series: Series = BTC, slot: int = START_SLOT, **fields: Any) -> Candle:
    """The statement that there is no candle."""
    nothing = dict.fromkeys(("open", "high", "low", "close", "volume"))
    return make_candle(series, slot, **nothing | {"absent": True} | fields)


def record_of(candle: Candle, partition: int = 0) -> Record:
    """A candle under its own key."""
    return Record(Series(candle.exchange, candle.symbol, candle.timeframe).key, encode(candle), partition)


def make_batch(records: Sequence[Record], offsets: Sequence[int] | None = None, resume: int = 0) -> Batch:
    """Records as fetched; their offsets count up from 0 unless given, and from `resume` on they speak."""
    at = np.arange(len(records)) if offsets is None else np.array(offsets, np.int64)
    keys, values, partitions = ([record[i] for record in records] for i in range(3))
    return Batch(keys, values, partitions, at, at >= resume)  # type: ignore[arg-type]
