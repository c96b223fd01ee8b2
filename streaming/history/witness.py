"""Whether a partition is the one that was read before: offsets alone begin anew with another topic of the same name.

Enters: a record that was read, and the partition as it is now. Leaves: yes or no. Does not know: datasets.
"""

from __future__ import annotations

import hashlib
import time

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.errors import CandlewickError

DIGEST_CHARS = 16
POLL_MS = 500
TIMEOUT_S = 60.0


class Witness(msgspec.Struct, frozen=True):
    """A record that was read."""

    offset: int
    digest: str

    @classmethod
    def of(cls, offset: int, value: bytes | None) -> Witness:
        """Of one record."""
        return cls(offset, hashlib.sha256(value or b"").hexdigest()[:DIGEST_CHARS])


async def recognise(
    consumer: AIOKafkaConsumer, tp: TopicPartition, witness: Witness, bounds: tuple[int, int]
) -> bool | None:
    """Whether the record is still there as it was; None: it has been deleted by age. Moves the position.

    Args:
        consumer: the partition is assigned to it.
        tp: the partition.
        witness: the record.
        bounds: the first offset of the partition, and the one after its last.

    Raises:
        CandlewickError: the record does not come.
    """
    begin, end = bounds
    if witness.offset < begin:
        return None
    if witness.offset >= end:
        return False
    consumer.seek(tp, witness.offset)
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        for record in (await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=1)).get(tp, ()):
            return Witness.of(record.offset, record.value) == witness
        if await consumer.position(tp) >= end:
            return False  # nothing but ends of transactions
    raise CandlewickError(f"{tp.topic}[{tp.partition}]@{witness.offset} could not be read; is Kafka up?")
