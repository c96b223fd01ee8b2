"""Many records to one topic at the price of few calls: they are packed into batches by hand.

Enters: records by partition. Leaves: one future of an acknowledgement a batch. Does not know: what they say.
A call of `send` for each record costs five times as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer

from models.events import Message

Acks = list[asyncio.Future[Any]]


async def send_packed(producer: AIOKafkaProducer, topic: str, partition: int, messages: Iterable[Message]) -> Acks:
    """Send records in order; wait for the returned futures to know them safe."""
    acks: Acks = []
    batch = producer.create_batch()
    for message in messages:
        if batch.append(key=message.key, value=message.value, timestamp=message.timestamp_ms) is None:
            acks.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=message.key, value=message.value, timestamp=message.timestamp_ms)
    if batch.record_count():
        acks.append(await producer.send_batch(batch, topic, partition=partition))
    return acks
