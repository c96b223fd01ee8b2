"""Candles put on the topic by hand, in any order and with any stamp, for the tests of what reads the log.

Enters: messages. Leaves: records on one partition. Does not know: what is read from them.
"""

from __future__ import annotations

from collections.abc import Iterable

from models.events import Candle, Message, encode
from models.series import Series
from streaming.clients import new_producer, started
from streaming.packing import acknowledged, send_packed
from streaming.settings import Settings


def said(candle: Candle, stamped_ms: int | None = None) -> Message:
    """A candle as it is written; stamped with its close, unless told otherwise."""
    key = Series(candle.exchange, candle.symbol, candle.timeframe).key
    return Message(key, encode(candle), candle.close_time_ms if stamped_ms is None else stamped_ms)


async def write(settings: Settings, messages: Iterable[Message], topic: str = "candles", partition: int = 0) -> None:
    """Put them on one partition, in this order."""
    async with started(new_producer(settings, linger_ms=0)) as producer:
        await acknowledged(await send_packed(producer, settings.topic(topic), partition, list(messages)))
