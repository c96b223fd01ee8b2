"""Real candles for as many series as a test wants: the sample's ten symbols, cut into pieces laid side by side.

Enters: how many series and slots. Leaves: a `CandleTable` that replay can publish. Does not know: Kafka.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from models.candle_files import read_candles
from models.candle_table import CandleTable, Segment
from models.series import timeframe_ms

SAMPLE = Path(__file__).parents[2] / "streaming" / "sample"
BEGIN_MS = 1_747_699_200_000
"""Open time of every table's first candle: 2025-05-20 00:00 UTC, as in the sample."""


@cache
def _sample() -> CandleTable:
    return read_candles([SAMPLE])


def market(series: int, slots: int, timeframe: str = "1m", absent: tuple[tuple[int, int], ...] = ()) -> CandleTable:
    """`series` symbols `S000/USDT`, `S001/USDT`... on `slots` consecutive slots.

    Args:
        series: how many; series `i` is a piece of the sample's symbol `i % 10`, its times moved to the common ones.
        slots: how long each is, at most 20,160.
        timeframe: how long each bar is said to be.
        absent: (series, slot) pairs that have no candle.
    """
    whole = _sample()
    symbols, rows = len(whole.symbols), len(whole.open_time_ms)
    pieces = -(-series // symbols)
    step = (rows - slots) // max(1, pieces - 1)
    ohlcv = np.stack(
        [whole.ohlcv[:, i % symbols, i // symbols * step : i // symbols * step + slots] for i in range(series)], axis=1
    )
    for at, slot in absent:
        ohlcv[:, at, slot] = np.nan
    length_ms = timeframe_ms(timeframe)
    return CandleTable(
        exchange="binance",
        timeframe_ms=length_ms,
        symbols=tuple(f"S{i:03d}/USDT" for i in range(series)),
        open_time_ms=BEGIN_MS + length_ms * np.arange(slots, dtype=np.int64),
        ohlcv=ohlcv,
        segments=((Segment(0, slots),),) * series,
    )
