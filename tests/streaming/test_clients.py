"""What every client of this project promises Kafka, whoever makes it."""

from __future__ import annotations

import asyncio

from streaming.clients import new_producer
from streaming.settings import KafkaSettings, Settings

SETTINGS = Settings(_env_file=None, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"))  # type: ignore[call-arg]


def test_producer_waits_for_every_replica_and_writes_each_record_once() -> None:
    async def made() -> tuple[int, bool]:
        producer = new_producer(SETTINGS)
        try:
            idempotent = producer._txn_manager is not None
            return producer._sender._acks, idempotent
        finally:
            await producer.stop()

    acks, idempotent = asyncio.run(made())
    assert acks == -1  # all of them, in Kafka's protocol
    assert idempotent
