"""Offsets whose results are safe, on their way into the group's log, each with the offset that state is rebuilt from.

Enters: how far each partition is done. Leaves: commits, one at a time. Does not know: batches, or who owns a partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from streaming.rewind import encode_rewind

logger = logging.getLogger(__name__)


class Commits:
    """What waits to be committed. Where a commit fails it waits on: a quiet partition would never say it again."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._waiting: dict[TopicPartition, OffsetAndMetadata] = {}
        self._one_at_a_time = asyncio.Lock()  # else an older one could overtake, and come back after a rebalance

    def add(self, partition: int, end: int, rewind: int) -> None:
        """A partition is done up to `end`; its state could be rebuilt from `rewind`."""
        self.add_at(TopicPartition(self._topic, partition), end, encode_rewind(rewind))

    def add_at(self, tp: TopicPartition, end: int, metadata: str) -> None:
        """The same of any topic; what waits together is committed together."""
        self._waiting[tp] = OffsetAndMetadata(end, metadata)

    def keep_only(self, partitions: Collection[int]) -> None:
        """Forget partitions that went: who owns them now does these records again, and they come out the same."""
        self._waiting = {tp: offset for tp, offset in self._waiting.items() if tp.partition in partitions}

    async def flush(self, timeout_s: float) -> None:
        """Commit what waits; aiokafka itself would look for the group's coordinator for ever."""
        try:
            async with asyncio.timeout(timeout_s), self._one_at_a_time:
                await self._commit(dict(self._waiting))
        except (CommitFailedError, IllegalStateError) as error:  # the group is just sharing out partitions anew
            logger.info("commit came too late for this assignment error=%r", error)
        except (KafkaError, TimeoutError) as error:
            logger.warning("commit failed, to be tried again error=%r", error)

    async def _commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        if offsets:
            await self._consumer.commit(offsets)
            self._waiting = {tp: offset for tp, offset in self._waiting.items() if offsets.get(tp) is not offset}
