"""Notices a partition that stands still while records wait: its process must end, so that a fresh one takes over.

Enters: how far a consumer is, again and again. Leaves: how many records wait, for how long Kafka has been silent, or
the end. Does not know: the consumer. See faust #175, aiokafka #1037.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from models.errors import CandlewickError

logger = logging.getLogger(__name__)

SILENT_S = 10.0
"""A question takes milliseconds; after so long without an answer Kafka is away, or cut off from here."""


class Stalled(CandlewickError):  # noqa: N818 - a state, named as one
    """Lag grows and nothing moves; the process ends so that a fresh one can take over."""


class _Seen(NamedTuple):
    position: int
    since_s: float  # it has been there, or nothing has waited


class Watchdog:
    """Of one consumer."""

    def __init__(self, lookup: AIOKafkaConsumer, timeout_s: float) -> None:
        """Args: `lookup` a client that does not fetch; `timeout_s` how long a partition may stand still."""
        self._lookup = lookup
        self._timeout_s = timeout_s
        self._seen: dict[TopicPartition, _Seen] = {}
        self._heard_s = time.monotonic()

    @property
    def interval_s(self) -> float:
        """How often to look."""
        return min(1.0, self._timeout_s / 4)

    def moved(self) -> None:
        """There was progress of another kind, as a new assignment is."""
        self._seen.clear()

    def ailment(self) -> str | None:
        """That Kafka does not answer, once that is so."""
        silent_s = time.monotonic() - self._heard_s
        return f"Kafka has not answered for {silent_s:.0f} s" if silent_s > SILENT_S else None

    async def look(self, positions: Mapping[TopicPartition, int]) -> int | None:
        """How many records wait; None while Kafka does not say, since then it is not this process that stalls.

        Args:
            positions: of what may be read, the offset after the last record that is done.

        Raises:
            Stalled: records of a partition wait, and it has not moved for too long.
        """
        ends = await self._ends(positions)
        if ends is None:
            self.moved()
            return None
        now_s = self._heard_s = time.monotonic()
        before, self._seen = self._seen, {}
        for tp, position in positions.items():
            seen = before.get(tp)
            if seen is None or seen.position != position or ends[tp] <= position:
                seen = _Seen(position, now_s)
            elif now_s - seen.since_s > self._timeout_s:
                raise Stalled(
                    f"no progress of {tp.topic}[{tp.partition}]@{position} for {self._timeout_s:g} s with "
                    f"{ends[tp] - position} records waiting"
                )
            self._seen[tp] = seen
        return sum(max(0, ends[tp] - position) for tp, position in positions.items())

    async def _ends(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int] | None:
        try:
            return await self._lookup.end_offsets(list(positions)) if positions else {}
        except KafkaError as error:
            logger.warning("cannot hear how far the topics go error=%r", error)
            return None
