"""The newest candles in `candles`, found from the end of the log.

Enters: series, or a timeframe. Leaves: their newest closes. Does not know: what is to come after them.

The tail of a series is its newest close, whatever the clock says: what comes later and is not newer, every reader
drops. How far a timeframe has come is another question; a candle that closes in the future does not answer it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

from models.events import Candle
from models.series import parse_key
from models.series_table import SeriesTable
from streaming.clients import UNCOMMITTED, new_reader, started
from streaming.looking_back import FIRST_LOOK, Recent, Seen, Tail, look_back
from streaming.settings import Settings
from streaming.stretch import candles
from streaming.topics import require_topics, topic_partitions

logger = logging.getLogger(__name__)

LIVE_BARS = 60
"""A series this far behind the newest of its timeframe is no longer live."""
MOST_AHEAD_MS = 3_600_000
"""By so much may a clock run ahead, by Kafka's own default (`message.timestamp.after.max.ms`); `candles` takes any."""


def wall_ms() -> int:
    """The time, UTC ms."""
    return time.time_ns() // 1_000_000


async def newest_candles(
    settings: Settings, keys: Collection[bytes], most: int, since_ms: int, clock: Callable[[], int] = wall_ms
) -> dict[bytes, list[Candle]]:
    """Key to its newest candles by time, for those of the keys that have one since `since_ms` (close, UTC ms).

    They are those of its `most` newest slots, as far as they close since then. A tail in the future by the clock (UTC
    ms) is a tail, and warned of.

    Raises:
        Stalled: Kafka gave nothing for a minute.
    """
    seen = Seen(recent=Recent(keys, most))

    def since() -> int | None:
        lacking = [key for key in keys if len(seen.recent.of(key)) < most]
        return min((max(since_ms, seen.recent.begin_ms(key, seen.newest.get(key))) for key in lacking), default=None)

    await look_back(settings, seen, since, UNCOMMITTED)
    _tell_ahead("leaves nothing to write", _ahead(seen.newest, keys, clock()))
    return {key: found for key in keys if (found := seen.recent.of(key))}


async def newest_closes(
    settings: Settings, keys: Collection[bytes], since_ms: int = 0, clock: Callable[[], int] = wall_ms
) -> dict[bytes, Tail]:
    """Key to newest candle, for those of the keys that have one since `since_ms` (close, UTC ms).

    A tail in the future by the clock (UTC ms) is a tail, and warned of.

    Raises:
        Stalled: Kafka gave nothing for a minute.
    """
    seen = Seen()

    def since() -> int | None:
        return None if all(key in seen.newest for key in keys) else since_ms

    await look_back(settings, seen, since, UNCOMMITTED)
    _tell_ahead("leaves nothing to write", _ahead(seen.newest, keys, clock()))
    return {key: seen.newest[key] for key in keys if key in seen.newest}


async def newest_close(settings: Settings, timeframe_ms: int, clock: Callable[[], int] = wall_ms) -> Tail | None:
    """The newest candle of this timeframe; None when the log holds none. As of `recent_closes`.

    Raises:
        Stalled: Kafka gave nothing for a minute.
    """
    seen = await _recently(settings, timeframe_ms, clock)
    newest, ahead = (_of(timeframe_ms, tails) for tails in (seen.newest, seen.ahead))
    if newest:
        _tell_ahead("does not count here", ahead)
    return max((newest or ahead).values(), default=None)


async def recent_closes(settings: Settings, timeframe_ms: int, clock: Callable[[], int] = wall_ms) -> dict[bytes, Tail]:
    """Key to newest candle of the series of this timeframe that are live, and of others that lie beside them.

    Candles that close in the future by the clock (UTC ms) are left out, unless there are no others.

    Raises:
        Stalled: Kafka gave nothing for a minute.
    """
    seen = await _recently(settings, timeframe_ms, clock)
    return _of(timeframe_ms, seen.newest) or _of(timeframe_ms, seen.ahead)


async def _recently(settings: Settings, timeframe_ms: int, clock: Callable[[], int]) -> Seen:
    """What has to be seen to know every live series of a timeframe."""
    seen = Seen(latest_ms=clock() + MOST_AHEAD_MS + timeframe_ms)

    def since() -> int:
        newest = max(_of(timeframe_ms, seen.newest).values(), default=None)
        return newest.close_time_ms - LIVE_BARS * timeframe_ms if newest else 0

    await look_back(settings, seen, since)
    return seen


def _ahead(tails: Mapping[bytes, Tail], keys: Collection[bytes], now_ms: int) -> dict[bytes, Tail]:
    latest_ms = {key: now_ms + MOST_AHEAD_MS + parse_key(key).timeframe_ms for key in keys}
    return {key: tails[key] for key in keys if key in tails and tails[key].close_time_ms > latest_ms[key]}


def _tell_ahead(consequence: str, ahead: Mapping[bytes, Tail]) -> None:
    if ahead:
        key, tail = max(ahead.items(), key=lambda item: item[1])
        logger.warning(
            "a candle of the future %s series=%s close_time_ms=%d series_in_all=%d; readers take nothing of a series "
            "that closes before its newest candle",
            consequence, key.decode(), tail.close_time_ms, len(ahead),
        )  # fmt: skip


def _of(timeframe_ms: int, tails: Mapping[bytes, Tail]) -> dict[bytes, Tail]:
    return {key: tail for key, tail in tails.items() if parse_key(key).timeframe_ms == timeframe_ms}


async def oldest_close(settings: Settings, timeframe_ms: int) -> int | None:
    """The oldest close (UTC ms) of this timeframe among the first records of each partition; None: there is none.

    Raises:
        Stalled: Kafka gave nothing for a minute.
    """
    await require_topics(settings, "candles")
    tps, table, oldest = topic_partitions(settings, "candles"), SeriesTable(), list[int]()
    async with started(new_reader(settings)) as reader:
        begins, ends = await reader.beginning_offsets(tps), await reader.end_offsets(tps)
        lower, look = dict(begins), FIRST_LOOK
        while not oldest and any(lower[tp] < ends[tp] for tp in tps):
            upper = {tp: min(ends[tp], begins[tp] + look) for tp in tps}
            async for _, columns in candles(reader, {tp: (lower[tp], upper[tp]) for tp in tps}, table):
                closes = columns.close_time_ms[table.timeframe_ms[columns.row] == timeframe_ms]
                oldest += [int(closes.min())] if len(closes) else []
            lower, look = upper, look * 2
    return min(oldest, default=None)
