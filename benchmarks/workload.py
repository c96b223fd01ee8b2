"""The load: real candles cut into as many series as wanted, all closing together, and a bundle that serves them.

Enters: sizes. Leaves: encoded candles by partition, close by close. Does not know: workers, or what is measured.

The shapes are real, the names and times are not: pieces of ten symbols' histories are laid side by side on one grid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.candle_files import read_candles
from models.errors import CandlewickError
from models.events import Candle, Message, encode
from models.series import Series
from streaming.partition import partition_of
from tests.models.make_bundle import make_bundle

_SAMPLE = Path(__file__).parent.parent / "streaming" / "sample"  # 14 days without a gap
_BEGIN_MS = 1_746_403_200_000  # 2025-05-05 00:00 UTC
_BAR_MS = 60_000
PARTITIONS = 16


@dataclass(frozen=True)
class Size:
    """How much of everything; the defaults are those of the figures we quote."""

    series: int = 500
    hidden: int = 64
    lookback_bars: int = 64
    warm_up_bars: int = 1_500
    closes: int = 1_000  # after the warm-up: so many give signals
    rounds: int = 3
    bursts: int = 400

    @property
    def silent_closes(self) -> int:
        """Closes that only fill memory and windows: the one after them is the first to speak."""
        return self.warm_up_bars + self.lookback_bars


class Workload:
    """The candles of one benchmark."""

    def __init__(self, size: Size, closes: int) -> None:
        self.size = size
        self.series = [Series("binance", f"S{i:03}/USDT", "1m") for i in range(size.series)]
        self.partition = [partition_of(series.key, PARTITIONS) for series in self.series]
        self._ohlcv = _pieces(size.series, closes)

    def bundle(self) -> bytes:
        """Random weights of the right shape, all features: it costs what a trained one costs."""
        return make_bundle(
            hidden=self.size.hidden,
            lookback=self.size.lookback_bars,
            warm_up_bars=self.size.warm_up_bars,
            symbols=tuple(series.symbol for series in self.series),
        )

    def messages(self, first: int, stop: int) -> dict[int, list[Message]]:
        """Candles of these closes by partition, in order of time."""
        messages: defaultdict[int, list[Message]] = defaultdict(list)
        for series, partition, piece in zip(self.series, self.partition, self._ohlcv, strict=True):
            messages[partition] += self._of(series, piece, first, stop)
        for each in messages.values():
            each.sort(key=lambda message: message.timestamp_ms)  # stable, so series keep their order within a close
        return messages

    def offsets_at(self, close: int) -> dict[int, int]:
        """How many records lie before a close, by partition."""
        return {partition: close * self.partition.count(partition) for partition in set(self.partition)}

    def _of(self, series: Series, piece: NDArray[np.float64], first: int, stop: int) -> Iterator[Message]:
        key = series.key
        for close, (open_, high, low, last, volume) in enumerate(piece[first:stop].tolist(), first):
            close_time_ms = _BEGIN_MS + (close + 1) * _BAR_MS
            candle = Candle(
                exchange=series.exchange, symbol=series.symbol, timeframe=series.timeframe,
                open_time_ms=close_time_ms - _BAR_MS, close_time_ms=close_time_ms,
                open=open_, high=high, low=low, close=last, volume=volume,
                origin="replayed", received_at_ms=close_time_ms + 5,
            )  # fmt: skip
            yield Message(key, encode(candle), close_time_ms)


def _pieces(count: int, closes: int) -> NDArray[np.float64]:
    """`(count, closes, 5)` of real candles, begun at evenly spaced places of each symbol's history."""
    table = read_candles([_SAMPLE])
    symbols, slots = table.ohlcv.shape[1:]
    if closes > slots:
        raise CandlewickError(f"{closes} closes are wanted, and the sample holds {slots}")
    each = -(-count // symbols)
    starts = [(slots - closes) * i // each for i in range(each)]
    pieces = [table.ohlcv[:, s, start : start + closes].T for start in starts for s in range(symbols)]
    return np.stack(pieces[:count])
