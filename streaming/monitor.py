"""The role `monitor`: signals and candles to outcomes and their sums, and on to drift.

Enters: batches of candles and signals. Leaves: outcomes, partial scores, and commits of what is safely out. Does not
know: how a signal is scored, which is the join's; what becomes of the sums, which is their owner's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from mode import Service

from models.decode import Batch
from models.drift import Detectors
from models.events import Message
from models.outcomes import Join, Joined, Rewind
from streaming import metrics
from streaming.clients import close_all, new_producer, start
from streaming.memory import settle
from streaming.packing import acknowledged, send_packed
from streaming.pairs import PairSource
from streaming.pool import ScoresOwner
from streaming.settings import Settings
from streaming.surroundings import Follower
from streaming.topics import check_topics


class Monitor(Service):
    """Owns the join. Supervised by the Faust worker."""

    mundane_level = "debug"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._join = Join()
        self.source = PairSource(settings, self)
        self._clients: list[Any] = []
        self._parts: list[Service] = []
        self.ready = asyncio.Event()
        super().__init__()

    async def on_start(self) -> None:
        """Join both groups.

        Raises:
            CandlewickError: Kafka cannot be reached, or lacks a topic.
        """
        read = ("candles", "signals", "retrain-jobs", "job-events", "models")
        await check_topics(self._settings, *read, "outcomes", "scores", "drift")
        await asyncio.to_thread(Detectors, 1)  # brings River in, which takes seconds: no heartbeat may wait for it
        self._producer = new_producer(self._settings, linger_ms=0)
        await start(self._producer)
        self._clients.append(self._producer)
        self._follower = Follower(self._settings)
        self.owner = ScoresOwner(self._settings, self._producer, self._follower)
        settle()
        self._parts = [self._follower, self.owner, self.source]
        for part in self._parts:
            await self.add_runtime_dependency(part)

    async def on_stop(self) -> None:
        """Let both consumers finish while the producer still lives."""
        await asyncio.gather(*(part.stop() for part in self._parts))
        await close_all(self._clients)

    @Service.task
    async def _say_ready(self) -> None:
        await self.source.caught_up.wait()
        self.ready.set()

    def ailment(self) -> str | None:
        """What is wrong just now, for /health."""
        return self.source.ailment() if self.ready.is_set() else "starting"

    # --- the desk of the source

    def begin(self, partition: int, rewind: Rewind) -> None:
        """Take up a partition."""
        self._join.begin(partition, rewind)

    def forget(self, partitions: Collection[int]) -> None:
        """Drop partitions."""
        self._join.forget(partitions)

    def waiting(self, partition: int) -> int:
        """Signals that wait for candles."""
        return self._join.waiting(partition)

    def rewinds(self) -> dict[int, Rewind]:
        """From where the state as it is now can be rebuilt."""
        return self._join.rewinds()

    def let_go(self, partition: int, offset: int) -> None:
        """Forget candles below this offset."""
        self._join.let_go(partition, offset)

    def forget_orphans(self, partition: int, offset: int) -> None:
        """Give up the signals below this offset whose candles are not in the log any more."""
        metrics.withheld_outcomes.labels("candle_gone").inc(self._join.forget_orphans(partition, offset))

    async def serve(self, candles: Batch, signals: Batch, settled: dict[int, int]) -> None:
        """One batch, whole: after it, everything it led to is acknowledged by Kafka.

        Raises:
            CandlewickError: Kafka did not acknowledge in time; the process ends, and the records are done again.
            KafkaError: Kafka refused a record; so it does again.
        """
        joined = self._join.take(candles, signals)
        sums = [message for partition, offset in settled.items() for message in self._join.settle(partition, offset)]
        await self._publish(joined, sums)
        self._count(joined)

    async def _publish(self, joined: Joined, sums: list[Message]) -> None:
        topic, acks = self._settings.topic("outcomes"), []
        for partition, messages in joined.outcomes.items():
            acks += await send_packed(self._producer, topic, partition, messages)
        acks += await send_packed(self._producer, self._settings.topic("scores"), 0, sums)
        await acknowledged(acks, self._settings.monitor.kafka_timeout_s)

    def _count(self, joined: Joined) -> None:
        for model, count in joined.joined.items():
            metrics.outcomes.labels(model).inc(count)
        for reason, count in joined.withheld.items():
            metrics.withheld_outcomes.labels(reason).inc(count)
        for reason, count in joined.ignored.items():
            metrics.ignored_by_monitor.labels(reason).inc(count)
        metrics.late_outcomes.inc(joined.late)
