"""Is this broker really ready? Only a record that was produced and fetched again says so.

Enters: bootstrap servers. Leaves: nothing, or an error. Does not know: processes, folders.
"""

from __future__ import annotations

import asyncio
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from streaming.embedded_failures import BrokerError

TOPIC = "__candlewick-ready"
_TOPIC_CONFIG = {"cleanup.policy": "delete", "retention.bytes": "1048576", "segment.bytes": "1048576"}
_REQUEST_MS = 2_000


def check_round_trip(bootstrap: str, timeout_s: float) -> None:
    """Produce one record and fetch it. Blocks; call it outside an event loop.

    Raises:
        BrokerError: it did not come back in time.
    """
    try:
        asyncio.run(asyncio.wait_for(_round_trip(bootstrap), timeout_s))
    except (KafkaError, TimeoutError, OSError) as error:
        raise BrokerError(f"the broker at {bootstrap} does not take and return a record: {error!r}") from error


async def _round_trip(bootstrap: str) -> None:
    await _ensure_topic(bootstrap)
    token = uuid.uuid4().bytes
    partition = TopicPartition(TOPIC, 0)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_MS)
    async with producer:
        offset = (await producer.send_and_wait(TOPIC, token, partition=0)).offset
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    async with consumer:
        consumer.assign([partition])
        consumer.seek(partition, offset)
        record = await consumer.getone()
    if record.value != token:
        raise BrokerError(f"the broker at {bootstrap} returned another record than it was given")


async def _ensure_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_MS)
    try:
        await admin.start()
        await admin.create_topics([NewTopic(TOPIC, 1, 1, topic_configs=_TOPIC_CONFIG)])  # existing is fine
    finally:
        await admin.close()
