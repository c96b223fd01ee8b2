"""Candles sent to a topic as `ingest` sends them, for the tests of what keeps or reads them.

Enters: candles. Leaves: records in transactions. Does not know: what is tested.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from models.events import Candle, encode
from models.series import Series
from streaming.clients import new_producer, started
from streaming.partition import partition_of
from streaming.settings import Settings
from tests.models.candle_records import START_SLOT, make_candle

PARTITIONS = 3
SERIES = [Series("binance", f"S{i}/USDT", "1m") for i in range(5)]


def bars(first: int, last: int, **fields: Any) -> list[Candle]:
    """Bars `first <= bar < last` of all series, burst by burst; `fields` replace any of their own."""
    slots = range(START_SLOT + first, START_SLOT + last)
    pairs = [(slot, own, 100 + (slot + i) % 7 / 4) for slot in slots for i, own in enumerate(SERIES)]
    return [make_candle(own, slot, **{"close": close} | fields) for slot, own, close in pairs]


async def send(settings: Settings, candles: Iterable[Candle], burst: int = len(SERIES), abort: bool = False) -> None:
    """In transactions of so many records, so that their ends take offsets of their own."""
    waiting = list(candles)
    async with started(new_producer(settings, transactional_id=f"{settings.kafka.topic_prefix}test")) as producer:
        for at in range(0, len(waiting), burst):
            await producer.begin_transaction()
            for candle in waiting[at : at + burst]:
                key = Series(candle.exchange, candle.symbol, candle.timeframe).key
                await producer.send_and_wait(
                    settings.topic("candles"), encode(candle), key, partition=partition_of(key, PARTITIONS),
                    timestamp_ms=candle.close_time_ms,
                )  # fmt: skip
            await (producer.abort_transaction() if abort else producer.commit_transaction())
