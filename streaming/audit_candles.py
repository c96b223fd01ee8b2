"""The topic `candles` as the audit understands it: the first word for every slot of every series, in unbroken runs.

Enters: every record. Leaves: runs of consecutive slots, and where poison lies. Does not know: batches, rewinds, models.
Works by columns, since there may be a million records, but shares nothing with the code that serves: what looks sound
here is checked by rules written down once more, everything else by the words of `why_invalid`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.decode import why_invalid
from models.errors import InvalidMessage
from models.events import SCHEMA_VERSION, Candle, decode_candle
from models.series import Series, parse_key
from streaming.read import read_batches
from streaming.settings import Settings

_NUMBERS = ("close_time_ms", "open_time_ms", "received_at_ms", "absent", "revision", "v",
            "open", "high", "low", "close", "volume")  # fmt: skip
_numbers_of = attrgetter(*_NUMBERS)
_series_of = attrgetter("exchange", "symbol", "timeframe")


class Line(NamedTuple):
    """A series where it lies; records under its key on another partition are a line of their own."""

    partition: int
    key: bytes


@dataclass(frozen=True)
class Run:
    """Consecutive slots of one line, without a gap that nobody declared."""

    line: Line
    timeframe_ms: int
    close_time_ms: NDArray[np.int64]  # (n,)
    ohlcv: NDArray[np.float64]  # (5, n), NaN where absent
    origins: list[str]  # (n,)

    @cached_property
    def absent(self) -> NDArray[np.bool_]:
        """`(n,)`: there is only the statement that there is none."""
        return np.asarray(np.isnan(self.ohlcv[3]))


class Place(NamedTuple):
    """One record of `candles`."""

    partition: int
    offset: int


@dataclass
class CandleLog:
    """What the topic holds."""

    runs: list[Run] = field(default_factory=list)
    poison: set[Place] = field(default_factory=set)

    @property
    def slots(self) -> int:
        """First words, absent ones included."""
        return sum(len(run.close_time_ms) for run in self.runs)


async def read_candle_log(settings: Settings) -> CandleLog:
    """Read `candles` to its present end."""
    log, lines = CandleLog(), _Lines()
    async for records in read_batches(settings, "candles"):
        candles, at = [], []
        for record in records:
            candle = _candle(record.value)
            if candle is None or lines.series(record.key) != _series_of(candle):
                log.poison.add(Place(record.partition, record.offset))
            else:
                candles.append(candle)
                at.append(record)
        if candles:
            log.poison |= lines.add(at, candles)
    log.runs = list(lines.runs())
    return log


def _candle(value: bytes | None) -> Candle | None:
    try:
        return decode_candle(value or b"")
    except (ValueError, RecursionError):
        return None


class _Lines:
    """Collects columns of what is valid."""

    def __init__(self) -> None:
        self._series: dict[bytes | None, Series | None] = {}
        self._length_ms: dict[bytes, int] = {}
        self._of: dict[Line, int] = {}
        self._ids: list[NDArray[np.intp]] = []
        self._numbers: list[NDArray[np.float64]] = []
        self._origins: list[str] = []

    def series(self, key: bytes | None) -> Series | None:
        if key not in self._series:
            try:
                self._series[key] = series = parse_key(key)
                self._length_ms[series.key] = series.timeframe_ms
            except InvalidMessage:
                self._series[key] = None
        return self._series[key]

    def add(self, records: list[Any], candles: list[Candle]) -> set[Place]:
        """Take records of one partition; returns those that break a rule."""
        numbers = np.array(list(map(_numbers_of, candles)), np.float64)  # None becomes NaN
        lengths = np.array([self._length_ms[record.key] for record in records])
        sound = _sound(numbers, lengths)
        for i in np.flatnonzero(~sound).tolist():
            sound[i] = not why_invalid(candles[i])
        poison = {Place(records[i].partition, records[i].offset) for i in np.flatnonzero(~sound).tolist()}
        first_words = np.flatnonzero(sound & (numbers[:, 4] == 0)).tolist()
        ids = [self._of.setdefault(Line(records[i].partition, records[i].key), len(self._of)) for i in first_words]
        self._ids.append(np.array(ids, np.intp))
        self._numbers.append(numbers[first_words])
        self._origins += [candles[i].origin for i in first_words]
        return poison

    def runs(self) -> Iterator[Run]:
        if not self._of:
            return
        ids, numbers = np.concatenate(self._ids), np.concatenate(self._numbers)
        order = np.argsort(ids, kind="stable")
        for line, mine in zip(self._of, np.split(order, np.cumsum(np.bincount(ids))[:-1]), strict=True):
            yield from self._runs_of(line, mine, numbers[mine])

    def _runs_of(self, line: Line, at: NDArray[np.intp], numbers: NDArray[np.float64]) -> Iterator[Run]:
        """Leave out what is not newer than everything before it; cut where slots are missing."""
        length_ms = self._length_ms[line.key]
        closes = numbers[:, 0].astype(np.int64)
        newest_before = np.maximum.accumulate(np.concatenate([[-1], closes[:-1]]))
        first = np.flatnonzero(closes > newest_before)
        cuts = np.flatnonzero(np.diff(closes[first]) > length_ms) + 1
        for piece in np.split(first, cuts):
            origins = [self._origins[i] for i in at[piece].tolist()]
            yield Run(line, length_ms, closes[piece], numbers[piece, 6:].T.copy(), origins)


def _sound(numbers: NDArray[np.float64], length_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which candles are valid beyond doubt `(n,)`."""
    closes_at, opens_at, received_at, absent, _, version, open_, high, low, close, volume = numbers.T
    return np.asarray(
        (version == SCHEMA_VERSION)
        & (absent == 0)
        & (closes_at == opens_at + length_ms)
        & (opens_at % length_ms == 0)
        & (received_at >= closes_at)
        & (low > 1e-9)
        & (low <= np.minimum(open_, close))
        & (high >= np.maximum(open_, close))
        & (high < 1e9)
        & (volume >= 0)
        & (volume < 1e12)
    )
