"""Kafka clients, made in one place so that security and safety settings are the same everywhere.

Enters: settings. Leaves: aiokafka clients, not yet started. Does not know: who uses them.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from models.errors import CandlewickError
from streaming.produce_request import produce_in_pieces
from streaming.settings import Settings

logger = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20
COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"
"""`ingest` writes each burst as one transaction: what a dead one left half-written is never seen."""
CLOSE_TIMEOUT_S = 0.8
"""A producer with records that Kafka does not take would wait for ever to be rid of them."""


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
    produce_in_pieces()
    safe = {"acks": "all", "enable_idempotence": True, "max_batch_size": BATCH_BYTES}
    return AIOKafkaProducer(**connection(settings), **safe, **options)


def new_reader(settings: Settings, isolation_level: str = COMMITTED, **options: Any) -> AIOKafkaConsumer:
    """A consumer without a group: it is told what to read, and commits nothing.

    Where the log begins behind what it was told, it goes on with the oldest record that is left, never with the newest.
    """
    return AIOKafkaConsumer(
        **connection(settings),
        group_id=None,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level=isolation_level,
        **options,
    )


def new_member(settings: Settings, group: str, session_timeout_s: float, **options: Any) -> AIOKafkaConsumer:
    """A member of a group, which begins at the earliest record and commits by hand."""
    return AIOKafkaConsumer(
        **connection(settings),
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level=COMMITTED,
        session_timeout_ms=int(session_timeout_s * 1000),
        heartbeat_interval_ms=int(session_timeout_s * 250),
        **options,
    )


def is_of_kafka(error: BaseException | None) -> bool:
    """Whether Kafka failed, and not what was asked of it: the same may go well a little later."""
    return isinstance(error, KafkaError | TimeoutError) or (error is not None and is_of_kafka(error.__cause__))


def new_admin(settings: Settings) -> AIOKafkaAdminClient:
    """An admin client."""
    return AIOKafkaAdminClient(**connection(settings))


async def start(client: Any) -> None:
    """Start a client.

    Raises:
        CandlewickError: Kafka cannot be reached, or refuses this user.
    """
    try:
        await client.start()
    except BaseException as error:
        await close(client)
        if not isinstance(error, KafkaConnectionError):
            raise
        raise CandlewickError(
            f"Kafka cannot be reached ({error}). Is it up, is the address right, and are the user name and "
            "password accepted? A refused password looks like no broker at all"
        ) from error


async def close(client: Any) -> None:
    """Close a client within a bound, whatever happens: what mattered was acknowledged or raised before."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
    except (KafkaError, TimeoutError) as error:
        logger.warning("a client did not close cleanly client=%s error=%r", type(client).__name__, error)
        if isinstance(client, AIOKafkaProducer):
            await _abandon(client)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled us: aiokafka lets out what it did to a heartbeat of its own.


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End what a producer that cannot flush goes on with in the background, for ever: its `stop`, interrupted, lets it.

    This reaches into aiokafka, which the project holds to one minor version.
    """
    for step in (producer._sender.close, producer.client.close):
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await step()


async def close_all(clients: list[Any]) -> None:
    """Close clients at the same time, and forget them."""
    await asyncio.gather(*map(close, clients))
    clients.clear()


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    """Start a client and close it whatever happens.

    Raises:
        CandlewickError: Kafka cannot be reached, or refuses this user.
    """
    await start(client)
    try:
        yield client
    finally:
        await close(client)
