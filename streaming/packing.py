"""Many records to one topic at the price of few calls: they are packed into batches by hand.

Enters: records by partition. Leaves: one acknowledgement a batch to wait for, within a bound. Does not know: what the
records say. A call of `send` for each of them costs five times as much.

This reaches into aiokafka, which the project holds to one minor version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder

from models.errors import CandlewickError
from models.events import Message
from models.signal_block import SignalBlock
from streaming.record_batch import batches_of

ACK_TIMEOUT_S = 120.0
_NO_HEADERS: list[tuple[str, bytes]] = []


class Ack(NamedTuple):
    """Some records on their way to one partition; may be awaited by itself."""

    sent: asyncio.Future[Any]  # says the offset of the first of them
    records: int

    def __await__(self) -> Generator[Any, None, Any]:
        return self.sent.__await__()


async def send_packed(producer: AIOKafkaProducer, topic: str, partition: int, messages: Sequence[Message]) -> list[Ack]:
    """Send records in order; `acknowledged` waits until they are safe.

    Raises:
        CandlewickError: a record alone is larger than a batch may be; Kafka takes nothing.
    """
    acks: list[Ack] = []
    done = 0
    while done < len(messages):
        batch = producer.create_batch()
        fitted = _fill(batch, messages, done)
        if not fitted:
            raise CandlewickError(f"a record of {len(messages[done].value):,} bytes does not fit into a batch")
        acks.append(Ack(await _handed_over(producer, batch, topic, partition, ACK_TIMEOUT_S), fitted))
        done += fitted
    return acks


async def send_blocks(
    producer: AIOKafkaProducer, topic: str, blocks: Sequence[SignalBlock], most_bytes: int, timeout_s: float
) -> list[Ack]:
    """Send signals in order; `acknowledged` waits until they are safe.

    Raises:
        CandlewickError: one alone is larger than a batch may be; Kafka takes nothing for so long.
    """
    return [
        Ack(await _handed_over(producer, batch, topic, partition, timeout_s), batch.record_count())
        for partition, batch in batches_of(blocks, most_bytes)
    ]


async def _handed_over(
    producer: AIOKafkaProducer, batch: Any, topic: str, partition: int, timeout_s: float
) -> asyncio.Future[Any]:
    """Where another batch of its partition has not left yet, wait for as long as for an acknowledgement."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                with suppress(KafkaTimeoutError):  # aiokafka did not take it, after a time of its own
                    return await producer.send_batch(batch, topic, partition=partition)  # type: ignore[no-any-return]
    except TimeoutError as error:
        raise _not_taken(timeout_s) from error


def _fill(batch: BatchBuilder, messages: Sequence[Message], first: int) -> int:
    """Put as many messages into a batch as fit; past aiokafka's own wrapper, which costs as much again."""
    append = batch._builder.append
    fitted = 0
    for message in islice(messages, first, None):
        if append(fitted, message.timestamp_ms, message.key, message.value, _NO_HEADERS) is None:
            break
        fitted += 1
    batch._relative_offset = fitted
    return fitted


async def acknowledged(acks: Sequence[Ack], timeout_s: float = ACK_TIMEOUT_S) -> dict[int, int]:
    """Wait until Kafka has all of them, of one topic; give each partition's offset after the last.

    Raises:
        CandlewickError: it did not take them in time; an idempotent producer by itself would try for ever.
        KafkaError: it refused some.
    """
    try:
        async with asyncio.timeout(timeout_s):
            sent = await asyncio.gather(*(ack.sent for ack in acks))
    except TimeoutError as error:
        raise _not_taken(timeout_s) from error
    ends: dict[int, int] = {}
    for ack, first in zip(acks, sent, strict=True):
        ends[first.partition] = max(ends.get(first.partition, 0), int(first.offset) + ack.records)
    return ends


def _not_taken(timeout_s: float) -> CandlewickError:
    return CandlewickError(f"Kafka acknowledged nothing for {timeout_s:g} s; is it up, and has its disk room left?")
