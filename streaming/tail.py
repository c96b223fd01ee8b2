"""The newest close of each series in `candles`, found from the end of the log.

Enters: the keys wanted. Leaves: their newest closes. Does not know: what is to come after them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from models.decode import why_invalid
from models.events import Origin, decode_candle
from streaming.clients import new_reader, started
from streaming.settings import Settings
from streaming.topics import topic_partitions

FIRST_LOOK = 2_000
"""Records looked at from the end of each partition; twice as many each time a wanted series was not among them."""
TIMEOUT_S = 120


class Tail(NamedTuple):
    """The newest candle of a series."""

    close_time_ms: int  # UTC
    origin: Origin


async def newest_closes(settings: Settings, keys: Collection[bytes] | None = None) -> dict[bytes, Tail]:
    """Key to newest candle for the wanted keys that the log holds (None: those in the first look).

    Raises:
        TimeoutError: the log could not be read in two minutes.
    """
    tps = topic_partitions(settings, "candles")
    newest: dict[bytes, Tail] = {}
    async with asyncio.timeout(TIMEOUT_S), started(new_reader(settings)) as reader:
        ends, begins = await reader.end_offsets(tps), await reader.beginning_offsets(tps)
        look, upper = FIRST_LOOK, dict(ends)
        while any(upper[tp] > begins[tp] for tp in tps):
            lower = {tp: max(begins[tp], ends[tp] - look) for tp in tps}
            await _read(reader, {tp: (lower[tp], upper[tp]) for tp in tps if lower[tp] < upper[tp]}, newest)
            if keys is None or all(key in newest for key in keys):
                break
            upper, look = lower, look * 2
    return newest if keys is None else {key: newest[key] for key in keys if key in newest}


async def _read(
    reader: AIOKafkaConsumer, spans: dict[TopicPartition, tuple[int, int]], newest: dict[bytes, Tail]
) -> None:
    reader.assign(list(spans))
    for tp, (lower, _) in spans.items():
        reader.seek(tp, lower)
    left = {tp: upper for tp, (_, upper) in spans.items()}
    while left:
        for tp, records in (await reader.getmany(*left, timeout_ms=200)).items():
            for record in records:
                tail = _tail_of(record.value)
                if record.key and tail and record.offset < spans[tp][1]:
                    newest[record.key] = max(newest.get(record.key, tail), tail)
            if records[-1].offset + 1 >= left[tp]:
                del left[tp]
                reader.pause(tp)


def _tail_of(value: bytes | None) -> Tail | None:
    try:
        candle = decode_candle(value or b"")
    except ValueError:  # poison: predict gives it its dead letter
        return None
    return None if why_invalid(candle) else Tail(candle.close_time_ms, candle.origin)
