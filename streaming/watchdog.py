"""Notices a consumer that stands still while records wait: such a process must end, so that a fresh one takes over.

Enters: how far a consumer is, again and again. Leaves: how many records wait, or the end. Does not know: the consumer.
See faust #175, aiokafka #1037.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from models.errors import CandlewickError

logger = logging.getLogger(__name__)


class Stalled(CandlewickError):  # noqa: N818 - a state, named as one
    """Lag grows and nothing moves; the process ends so that a fresh one can take over."""


class Watchdog:
    """Of one consumer."""

    def __init__(self, lookup: AIOKafkaConsumer, timeout_s: float) -> None:
        """Args: `lookup` a client that does not fetch; `timeout_s` how long a consumer may stand still."""
        self._lookup = lookup
        self._timeout_s = timeout_s
        self._seen: dict[TopicPartition, int] = {}
        self.moved()

    @property
    def interval_s(self) -> float:
        """How often to look."""
        return min(1.0, self._timeout_s / 4)

    def moved(self) -> None:
        """There was progress of another kind, as a new assignment is."""
        self._moved_at = time.monotonic()

    async def look(self, positions: Mapping[TopicPartition, int]) -> int:
        """How many records wait; 0 while Kafka does not say, since then it is not this process that stalls.

        Args:
            positions: of what may be read, the offset after the last record that is done.

        Raises:
            Stalled: some wait, and nothing has moved for too long.
        """
        lag = await self._lag(dict(positions))
        if not lag or self._seen != positions:
            self._seen = dict(positions)
            self.moved()
        elif time.monotonic() - self._moved_at > self._timeout_s:
            raise Stalled(f"no progress for {self._timeout_s:g} s with {lag} records waiting")
        return lag

    async def _lag(self, positions: dict[TopicPartition, int]) -> int:
        try:
            ends = await self._lookup.end_offsets(list(positions)) if positions else {}
        except KafkaError as error:
            logger.warning("cannot hear how far the topics go error=%r", error)
            return 0
        return int(sum(end - positions[tp] for tp, end in ends.items()))
