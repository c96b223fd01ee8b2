"""What Kafka has of the newest bars of a series, and the corrections of them that it does not have yet.

Enters: acknowledged candles, and later words on the same bars. Leaves: the words that differ, with their revision.
Does not know: the bars that are still to be published; those are the sequencer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from models.decode import CLOCK_SKEW_MS
from models.events import Candle, Origin
from models.kline import Kline
from models.series import Series

COMPARED_BARS = 64
"""So many of the newest published bars are remembered; a word on an older one comes too late to be a correction."""

Reception = Literal["duplicate", "revision", "old", "full"]


class Word(msgspec.Struct, frozen=True, gc=False):
    """What was said last of a finished bar; without a kline, that the exchange has none."""

    kline: Kline | None
    origin: Origin

    def says(self, other: Kline | Candle | None) -> bool:
        """Whether the other has the same prices and volume, to the last digit, or neither has any."""
        own = self.kline
        if own is None or other is None or other.close is None:
            return own is None and (other is None or other.close is None)
        return (
            own.close == other.close
            and own.volume == other.volume
            and own.high == other.high
            and own.low == other.low
            and own.open == other.open
        )

    def candle(self, series: Series, open_ms: int, close_ms: int, revision: int, received_at_ms: int) -> Candle:
        """The record for the topic; its time of reception is kept within what readers believe."""
        values = (None,) * 5 if self.kline is None else msgspec.structs.astuple(self.kline)[1:6]
        open_, high, low, close, volume = values
        return Candle(
            exchange=series.exchange,
            symbol=series.symbol,
            timeframe=series.timeframe,
            open_time_ms=open_ms,
            close_time_ms=close_ms,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            absent=self.kline is None,
            revision=revision,
            origin=self.origin,
            received_at_ms=max(received_at_ms, close_ms - CLOCK_SKEW_MS),
        )


class _Last(NamedTuple):
    """The highest revision that Kafka has of one bar."""

    word: Word
    revision: int


class Published:
    """The newest `COMPARED_BARS` slots before the mark, and at most as many older ones with a correction under way."""

    __slots__ = ("_bars", "_oldest_ms", "_pending", "_timeframe_ms")

    def __init__(self, timeframe_ms: int, candles: Iterable[Candle], before_ms: int) -> None:
        self._timeframe_ms = timeframe_ms
        self._oldest_ms = before_ms - COMPARED_BARS * timeframe_ms  # open time of the oldest bar that is compared
        self._bars: dict[int, _Last] = {}  # by open time
        self._pending: dict[int, Word] = {}  # by open time: the newest word, where it once differed
        for candle in candles:
            if self._oldest_ms <= candle.open_time_ms < before_ms:
                self._note(candle)

    def hear(self, open_ms: int, word: Word) -> Reception:
        """Compare a word with what was published of its bar; the newest word stands."""
        last = self._bars.get(open_ms)
        if last is None:
            return "old"
        pending = self._pending.get(open_ms)
        if pending is None:
            if last.word.says(word.kline):
                return "duplicate"
            if len(self._pending) >= COMPARED_BARS:
                return "full"
        elif pending.says(word.kline):
            return "duplicate"
        self._pending[open_ms] = word  # even where it is what was published: a revision may be on its way to Kafka
        return "revision"

    def acknowledge(self, candle: Candle) -> None:
        """Kafka has this one: a revision, or the bar after the newest, which makes the oldest be forgotten."""
        self._note(candle)
        if candle.revision == 0:
            self._oldest_ms += self._timeframe_ms
            self._forget(self._oldest_ms - self._timeframe_ms)

    def tidy(self) -> None:
        """Nothing is on its way to Kafka: forget the words that it has by now."""
        for open_ms in [open_ms for open_ms in self._pending if not self._differs(open_ms)]:
            del self._pending[open_ms]
            self._forget(open_ms)

    def revisions(self) -> Iterator[tuple[int, Word, int]]:
        """Open time, word and revision of what is to be published, in the order of time."""
        for open_ms in sorted(self._pending):
            if self._differs(open_ms):
                yield open_ms, self._pending[open_ms], self._bars[open_ms].revision + 1

    def __len__(self) -> int:
        return len(self._bars)

    def _differs(self, open_ms: int) -> bool:
        return not self._pending[open_ms].says(self._bars[open_ms].word.kline)

    def _forget(self, open_ms: int) -> None:
        """Drop a bar that is too old, unless a correction of it is still to be published."""
        if open_ms < self._oldest_ms and open_ms not in self._pending:
            self._bars.pop(open_ms, None)

    def _note(self, candle: Candle) -> None:
        known = self._bars.get(candle.open_time_ms)
        if known is None or candle.revision >= known.revision:
            self._bars[candle.open_time_ms] = _Last(Word(_kline_of(candle), candle.origin), candle.revision)


def _kline_of(candle: Candle) -> Kline | None:
    open_, high, low, close, volume = candle.open, candle.high, candle.low, candle.close, candle.volume
    if open_ is None or high is None or low is None or close is None or volume is None:
        return None
    return Kline(candle.open_time_ms, open_, high, low, close, volume, closed=True)
