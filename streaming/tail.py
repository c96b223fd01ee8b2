"""The newest candles in `candles`, found from the end of the log.

Enters: series, or a timeframe. Leaves: their newest closes. Does not know: what is to come after them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from models.decode import why_invalid
from models.events import Candle, Origin, decode_candle
from models.series import Series, parse_key
from streaming.clients import new_reader, started
from streaming.settings import Settings
from streaming.taking import reached
from streaming.topics import require_topics, topic_partitions

FIRST_LOOK = 2_000
"""Records looked at from the end of each partition; twice as many each time they do not answer the question."""
TIMEOUT_S = 120


class Tail(NamedTuple):
    """The newest candle of a series."""

    close_time_ms: int  # UTC
    origin: Origin


@dataclass
class _Seen:
    """What lies between the end of the log and where has been looked."""

    newest: dict[bytes, Tail] = field(default_factory=dict)  # by key
    oldest: dict[bytes, int] = field(default_factory=dict)  # likewise
    oldest_ms: dict[TopicPartition, int] = field(default_factory=dict)  # close of the partition's oldest candle seen
    remember: int = 0  # so many candles a series are kept, the newest by time
    recent: dict[bytes, dict[int, Candle]] = field(default_factory=dict)  # key to close to the highest revision

    def add(self, tp: TopicPartition, key: bytes, candle: Candle) -> None:
        if self.remember:
            self._keep(self.recent.setdefault(key, {}), candle)
        tail = Tail(candle.close_time_ms, candle.origin)
        self.newest[key] = max(self.newest.get(key, tail), tail)
        self.oldest[key] = min(self.oldest.get(key, tail.close_time_ms), tail.close_time_ms)
        self.oldest_ms[tp] = min(self.oldest_ms.get(tp, tail.close_time_ms), tail.close_time_ms)

    def _keep(self, recent: dict[int, Candle], candle: Candle) -> None:
        known = recent.get(candle.close_time_ms)
        if known is None or known.revision <= candle.revision:
            recent[candle.close_time_ms] = candle
        if len(recent) > 2 * self.remember:
            for close in sorted(recent)[: -self.remember]:
                del recent[close]


async def newest_candles(
    settings: Settings, keys: Collection[bytes], most: int, since_ms: int
) -> dict[bytes, list[Candle]]:
    """Key to its newest candles by time, about so many of them, for those of the keys that the log holds.

    Looks back no further than needed: until every series was found with all of them, or the log shows nothing newer
    than `since_ms` (close, UTC ms).

    Raises:
        TimeoutError: the log could not be read in two minutes.
    """
    async with asyncio.timeout(TIMEOUT_S), aclosing(_looks(settings, most)) as looks:
        async for seen in looks:
            if all(len(seen.recent.get(key, ())) >= most for key in keys):
                break
            if all(oldest < since_ms for oldest in seen.oldest_ms.values()):
                break
    found = {key: seen.recent[key] for key in keys if key in seen.recent}
    return {key: [recent[close] for close in sorted(recent)][-most:] for key, recent in found.items()}


async def newest_closes(settings: Settings, keys: Collection[bytes]) -> dict[bytes, Tail]:
    """Key to newest candle, for those of the keys that the log holds.

    Raises:
        TimeoutError: the log could not be read in two minutes.
    """
    async with asyncio.timeout(TIMEOUT_S), aclosing(_looks(settings)) as looks:
        async for seen in looks:
            if all(key in seen.newest for key in keys):
                break
    return {key: seen.newest[key] for key in keys if key in seen.newest}


async def newest_close(settings: Settings, timeframe_ms: int) -> Tail | None:
    """The newest candle of this timeframe; None when the log holds none.

    Raises:
        TimeoutError: the log could not be read in two minutes.
    """
    return max((await recent_closes(settings, timeframe_ms)).values(), default=None)


async def recent_closes(settings: Settings, timeframe_ms: int) -> dict[bytes, Tail]:
    """Key to newest candle of the series of this timeframe that are among the last records of each partition.

    Looks back until it has found one, and over two bars on every partition: others as new would lie there.

    Raises:
        TimeoutError: the log could not be read in two minutes.
    """
    async with asyncio.timeout(TIMEOUT_S), aclosing(_looks(settings)) as looks:
        async for seen in looks:
            mine = {key: tail for key, tail in seen.newest.items() if parse_key(key).timeframe_ms == timeframe_ms}
            newest = max(mine.values(), default=None)
            if newest and all(oldest <= newest.close_time_ms - 2 * timeframe_ms for oldest in seen.oldest_ms.values()):
                break
    return mine


async def oldest_close(settings: Settings, timeframe_ms: int) -> int | None:
    """The oldest close (UTC ms) of this timeframe among the first records of each partition; None: there is none.

    Raises:
        TimeoutError: the log could not be read in two minutes.
    """
    await require_topics(settings, "candles")
    tps, seen = topic_partitions(settings, "candles"), _Seen()
    async with asyncio.timeout(TIMEOUT_S), started(new_reader(settings)) as reader:
        begins, ends = await reader.beginning_offsets(tps), await reader.end_offsets(tps)
        lower, look = dict(begins), FIRST_LOOK
        while True:
            upper = {tp: min(ends[tp], begins[tp] + look) for tp in tps}
            await _read(reader, {tp: (lower[tp], upper[tp]) for tp in tps if lower[tp] < upper[tp]}, seen)
            mine = [close for key, close in seen.oldest.items() if parse_key(key).timeframe_ms == timeframe_ms]
            if mine or upper == ends:
                return min(mine, default=None)
            lower, look = upper, look * 2


async def _looks(settings: Settings, remember: int = 0) -> AsyncGenerator[_Seen, None]:
    """Look back farther and farther; at least once, and for the last time when the log begins there."""
    await require_topics(settings, "candles")
    seen, tps = _Seen(remember=remember), topic_partitions(settings, "candles")
    async with started(new_reader(settings)) as reader:
        upper, begins = await reader.end_offsets(tps), await reader.beginning_offsets(tps)
        ends, look = dict(upper), FIRST_LOOK
        while True:
            lower = {tp: max(begins[tp], ends[tp] - look) for tp in tps}
            await _read(reader, {tp: (lower[tp], upper[tp]) for tp in tps if lower[tp] < upper[tp]}, seen)
            for tp in tps:
                if lower[tp] == begins[tp]:  # all of it was seen: nobody has to look further back for its sake
                    seen.oldest_ms.pop(tp, None)
            yield seen
            if lower == begins:
                return
            upper, look = lower, look * 2


async def _read(reader: AIOKafkaConsumer, spans: dict[TopicPartition, tuple[int, int]], seen: _Seen) -> None:
    reader.assign(list(spans))
    for tp, (lower, _) in spans.items():
        reader.seek(tp, lower)
    left = {tp: upper for tp, (_, upper) in spans.items()}
    while left:
        for tp, records in (await reader.getmany(*left, timeout_ms=200)).items():
            for record in records:
                candle = _candle(record.key, record.value)
                if candle and record.offset < spans[tp][1]:
                    seen.add(tp, record.key, candle)
        for tp in await reached(reader, left):
            del left[tp]
            reader.pause(tp)


def _candle(key: bytes | None, value: bytes | None) -> Candle | None:
    try:
        candle = decode_candle(value or b"")
    except (ValueError, RecursionError):  # poison: predict gives it its dead letter
        return None
    named = Series(candle.exchange, candle.symbol, candle.timeframe)
    return candle if key == named.key and not why_invalid(candle) else None
