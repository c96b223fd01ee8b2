"""Candles of files into Kafka, merged by time, gaps declared absent; and the clock of a replayed world.

Enters: a table of candles. Leaves: records on `candles` after the topic's tail. Does not know: who reads them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from aiokafka import AIOKafkaProducer

from models.candle_table import MAX_ABSENT_RUN, CandleTable
from models.events import Candle, Message, Origin, encode
from models.series import Series
from streaming.clients import new_producer, started
from streaming.looking_back import Tail
from streaming.packing import acknowledged, send_packed
from streaming.partition import partition_of
from streaming.settings import Settings
from streaming.tail import newest_closes

logger = logging.getLogger(__name__)

CLOSES_A_TURN = 50
"""At full speed so many closes are sent at once, then acknowledged."""


class Turn(NamedTuple):
    """Some closes on their way."""

    first_close_ms: int
    last_close_ms: int
    closes: int
    messages: dict[int, list[Message]]  # by partition, in order of time


@dataclass
class Progress:
    """How far a replay is."""

    candles: int = 0
    absent: int = 0
    left_out: int = 0  # at or before the topic's tail
    last_close_ms: int = 0
    closes: int = 0
    closes_in_all: int = 0


class Gate(Protocol):
    """Says when the next turn may go; the clock of `up` and `demo`."""

    async def passed(self, turn: Turn) -> None:
        """Wait until this turn may be sent."""

    def sent(self, turn: Turn, ends: dict[int, int]) -> None:
        """It was acknowledged; `ends` gives each partition's offset after it."""


async def replay(
    settings: Settings,
    table: CandleTable,
    speed: float | None = None,
    gate: Gate | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Publish what comes after the topic's tail, in order of time.

    Args:
        settings: which Kafka.
        table: the candles.
        speed: how many times faster than the candles' own time; None is as fast as it goes.
        gate: waits before each turn; None waits for nobody.
        report: is told after every turn.
    """
    tails = await newest_closes(settings, _keys(table), _since_ms(table))
    progress = Progress(closes_in_all=len(table.open_time_ms))
    pace = _Pace(speed, table.timeframe_ms)
    async with started(new_producer(settings, linger_ms=0)) as producer:
        closes = 1 if speed else CLOSES_A_TURN
        for turn in turns(table, tails, settings.kafka.partitions, closes, progress):
            await pace.wait(turn.first_close_ms)
            if gate:
                await gate.passed(turn)
            ends = await _send(producer, settings.topic("candles"), turn)
            if gate:
                gate.sent(turn, ends)
            progress.last_close_ms = turn.last_close_ms
            report(progress)
    return progress


async def _send(producer: AIOKafkaProducer, topic: str, turn: Turn) -> dict[int, int]:
    """Send a turn and wait until it is safe; partition to the offset after it."""
    acks = [await send_packed(producer, topic, partition, messages) for partition, messages in turn.messages.items()]
    return await acknowledged([ack for each in acks for ack in each])


def _since_ms(table: CandleTable) -> int:
    """A tail that closes before this changes nothing: nothing is left out for it, and no gap after it declared."""
    return int(table.close_time_ms[0]) - (MAX_ABSENT_RUN + 1) * table.timeframe_ms


def _keys(table: CandleTable) -> set[bytes]:
    return {Series(table.exchange, symbol, table.timeframe).key for symbol in table.symbols}


def turns(
    table: CandleTable, tails: dict[bytes, Tail], partitions: int, closes: int, progress: Progress
) -> Iterator[Turn]:
    """Cut a table into turns of so many closes, leaving out what is at or before each series' tail.

    A gap of at most 1,500 bars between the tail and the first candle is declared absent as well.
    """
    lines = [_Line(table, s, tails, partitions, progress) for s in range(len(table.symbols))]
    close_times = table.close_time_ms.tolist()
    for first in range(0, len(close_times), closes):
        slots = range(first, min(first + closes, len(close_times)))
        messages: dict[int, list[Message]] = defaultdict(list)
        for slot in slots:
            for line in lines:
                messages[line.partition].extend(line.at(slot, close_times[slot]))
        progress.closes = slots.stop
        if any(messages.values()):
            filled = {partition: sent for partition, sent in messages.items() if sent}
            yield Turn(close_times[slots[0]], close_times[slots[-1]], len(slots), filled)


class _Line:
    """One series of a replay."""

    def __init__(
        self, table: CandleTable, s: int, tails: dict[bytes, Tail], partitions: int, progress: Progress
    ) -> None:
        self._series = Series(table.exchange, table.symbols[s], table.timeframe)
        self._key = self._series.key
        self._timeframe_ms = table.timeframe_ms
        self._ohlcv = table.ohlcv[:, s].T.tolist()  # (T, 5)
        self._speaks = np.zeros(len(table.open_time_ms), np.bool_)
        for first, stop in table.segments[s]:
            self._speaks[first:stop] = True
        tail = tails.get(self._key)
        self._tail_ms = tail.close_time_ms if tail else None
        self._progress = progress
        self._injected = None if table.injected is None else table.injected[s].tolist()
        self.partition = partition_of(self._key, partitions)

    def at(self, slot: int, close_time_ms: int) -> Iterator[Message]:
        """What this series says at a slot of the table; at the first slot after the tail, the gap as well."""
        if not self._speaks[slot]:
            return
        if self._tail_ms is not None:
            if close_time_ms <= self._tail_ms:
                self._progress.left_out += 1
                return
            missing = (close_time_ms - self._tail_ms) // self._timeframe_ms - 1
            if missing <= MAX_ABSENT_RUN:
                for i in range(missing):
                    yield self._message(self._tail_ms + (i + 1) * self._timeframe_ms, None, "replayed")
            self._tail_ms = None
        candle = self._ohlcv[slot]
        known = candle[3] == candle[3]  # NaN is no candle
        origin: Origin = "injected" if self._injected and self._injected[slot] else "replayed"
        yield self._message(close_time_ms, candle if known else None, origin)

    def _message(self, close_time_ms: int, ohlcv: list[float] | None, origin: Origin) -> Message:
        open_, high, low, close, volume = ohlcv or (None,) * 5
        self._progress.candles += ohlcv is not None
        self._progress.absent += ohlcv is None
        candle = Candle(
            exchange=self._series.exchange,
            symbol=self._series.symbol,
            timeframe=self._series.timeframe,
            open_time_ms=close_time_ms - self._timeframe_ms,
            close_time_ms=close_time_ms,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            absent=ohlcv is None,
            origin=origin,
            received_at_ms=max(close_time_ms, time.time_ns() // 1_000_000),
        )
        return Message(self._key, encode(candle), close_time_ms)


class _Pace:
    """Holds turns back so that their candles' time runs `speed` times as fast as ours."""

    def __init__(self, speed: float | None, timeframe_ms: int) -> None:
        self._speed = speed
        self._timeframe_ms = timeframe_ms
        self._next = time.monotonic()

    async def wait(self, close_time_ms: int) -> None:
        if self._speed is None:
            return
        await asyncio.sleep(max(0.0, self._next - time.monotonic()))
        # Never faster to catch up: after a hold the clock goes on at its own pace.
        self._next = max(self._next, time.monotonic()) + self._timeframe_ms / 1000 / self._speed
