"""The topic `candles` as its one writer sees it: whoever opens a shard's ledger shuts out who had it before.

Enters: candles in order. Leaves: each of them on the topic, once, or an error after which the ledger is to be opened
anew. Does not know: which candles are due.

The order of opening is what makes restarts safe (docs/adr/0025). First the producer is started under the shard's own
`transactional.id`: from then on Kafka takes nothing from an earlier one, and what that left half-done is undone. Only
then is the tail read, so nothing can come after it but ours. Each burst is one transaction, and readers see it whole or
not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced

from models.errors import CandlewickError
from models.events import Candle, Message, encode
from models.series import Series
from streaming.clients import close, new_producer, start
from streaming.packing import acknowledged, send_packed
from streaming.partition import partition_of
from streaming.settings import Settings
from streaming.supervise import SHUT_OUT
from streaming.tail import newest_candles

logger = logging.getLogger(__name__)

REMEMBERED_BARS = 64
"""Of each series, to tell a repeated bar from a corrected one."""
START_TIMEOUT_S = 30.0
"""A transaction of a dead predecessor is undone within its own, shorter timeout."""


class Fenced(CandlewickError):  # noqa: N818 - a state, named as one
    """Another process writes this shard now."""

    exit_code = SHUT_OUT


class Unacknowledged(Exception):  # noqa: N818 - likewise
    """Kafka did not say that it has the candles; it may have them or not. Open the ledger again to know."""


class Ledger:
    """Of one exchange and shard. Not for two tasks at once."""

    def __init__(self, settings: Settings, exchange: str, timeout_s: float) -> None:
        """Args: `timeout_s` bounds one burst; it must lie below the transaction's own timeout."""
        self._settings = settings
        self._topic = settings.topic("candles")
        shard = settings.ingest.shard.replace("/", "of")
        self.transactional_id = f"{settings.group('ingest')}.{exchange}.{settings.ingest.name}.{shard}"
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None

    async def open(self, keys: Collection[bytes], since_ms: int) -> dict[bytes, list[Candle]]:
        """Shut out whoever wrote before, and read what is there.

        Args:
            keys: of the series whose newest candles are wanted.
            since_ms: look no further back than this close (UTC ms); a series that is older counts as new.

        Returns:
            Key to its newest candles, in the order of the log; the newest bar is among them.

        Raises:
            CandlewickError: Kafka cannot be reached, or lacks the topic.
            KafkaError, TimeoutError: it does not answer; to be tried again.
        """
        await self.close()
        self._producer = new_producer(
            self._settings,
            linger_ms=0,
            transactional_id=self.transactional_id,
            transaction_timeout_ms=int(self._settings.ingest.transaction_timeout_s * 1_000),
        )
        async with asyncio.timeout(START_TIMEOUT_S):
            await start(self._producer)
        logger.info("ledger opened transactional_id=%s", self.transactional_id)
        return await self.tails(keys, since_ms)

    async def tails(self, keys: Collection[bytes], since_ms: int) -> dict[bytes, list[Candle]]:
        """Of more series, once the ledger is open: nothing but ours comes after them. As `open`."""
        return await newest_candles(self._settings, keys, REMEMBERED_BARS, since_ms) if keys else {}

    async def append(self, candles: Sequence[Candle]) -> None:
        """Write a burst: when this returns, Kafka has all of it and every reader may see it.

        Raises:
            Fenced: another process took the shard over; this one is to end.
            Unacknowledged: Kafka is away, or slow; open again.
        """
        producer = self._producer
        if producer is None:
            raise Unacknowledged("the ledger is not open")
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.begin_transaction()
                acks = []
                for partition, messages in self._by_partition(candles).items():
                    acks += await send_packed(producer, self._topic, partition, messages)
                await acknowledged(acks, self._timeout_s)
                await producer.commit_transaction()
        except ProducerFenced as error:
            await self.close()
            raise Fenced(
                f"another process took over {self.transactional_id}; this one ends so that no candle is written twice. "
                "If both are meant to run, give them names or shards of their own: CANDLEWICK_INGEST__NAME, "
                "CANDLEWICK_INGEST__SHARD"
            ) from error
        except (KafkaError, TimeoutError, CandlewickError) as error:
            await self.close()
            raise Unacknowledged(f"Kafka did not acknowledge {len(candles)} candles: {error!r}") from error

    def _by_partition(self, candles: Sequence[Candle]) -> dict[int, list[Message]]:
        messages: dict[int, list[Message]] = defaultdict(list)
        for candle in candles:
            key = Series(candle.exchange, candle.symbol, candle.timeframe).key
            partition = partition_of(key, self._settings.kafka.partitions)
            messages[partition].append(Message(key, encode(candle), candle.close_time_ms))
        return messages

    async def close(self) -> None:
        """Close the producer; an unfinished burst is undone by Kafka."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await close(producer)
