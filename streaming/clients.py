"""Kafka clients, made in one place so that security and safety settings are the same everywhere.

Enters: settings. Leaves: aiokafka clients, not yet started. Does not know: who uses them.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from models.errors import CandlewickError
from streaming.settings import Settings

BATCH_BYTES = 1 << 20


def bootstrap_servers(settings: Settings) -> str:
    """The servers that were set, else the embedded broker's own.

    Raises:
        CandlewickError: neither is there.
    """
    from streaming.embedded_kafka import running_broker  # lazy: a deployment with its own Kafka has no use for it

    servers = settings.kafka.bootstrap_servers or running_broker(settings.broker_dir)
    if servers is None:
        raise CandlewickError(
            f"no Kafka: no embedded broker runs in {settings.broker_dir}. Start one with `candlewick broker` or "
            "`candlewick up`, or set CANDLEWICK_KAFKA__BOOTSTRAP_SERVERS"
        )
    return servers


def connection(settings: Settings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client shares."""
    kafka = settings.kafka
    common: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers(settings),
        "security_protocol": kafka.security_protocol,
    }
    if "SASL" in kafka.security_protocol:
        if kafka.sasl_username is None or kafka.sasl_password is None:
            raise CandlewickError("SASL needs CANDLEWICK_KAFKA__SASL_USERNAME and CANDLEWICK_KAFKA__SASL_PASSWORD")
        common |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    if "SSL" in kafka.security_protocol:
        common["ssl_context"] = ssl.create_default_context(cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None)
    return common


def new_producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """A producer whose acknowledgement means that every in-sync replica has the record, once and in order."""
    safe = {"acks": "all", "enable_idempotence": True, "max_batch_size": BATCH_BYTES}
    return AIOKafkaProducer(**connection(settings), **safe, **options)


def new_reader(settings: Settings, **options: Any) -> AIOKafkaConsumer:
    """A consumer without a group: it is told what to read, and commits nothing."""
    return AIOKafkaConsumer(**connection(settings), group_id=None, enable_auto_commit=False, **options)


def new_admin(settings: Settings) -> AIOKafkaAdminClient:
    """An admin client."""
    return AIOKafkaAdminClient(**connection(settings))


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    """Start a client and close it whatever happens.

    Raises:
        CandlewickError: Kafka cannot be reached, or refuses this user.
    """
    try:
        try:
            await client.start()
        except KafkaConnectionError as error:
            raise CandlewickError(
                f"Kafka cannot be reached ({error}). Is it up, is the address right, and are the user name and "
                "password accepted? A refused password looks like no broker at all"
            ) from error
        yield client
    finally:
        with suppress(KafkaError):  # it is going away; what mattered was acknowledged or raised before
            await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
