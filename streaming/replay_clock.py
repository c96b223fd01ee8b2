"""The clock of a replayed world: it waits for those who work on its candles, and for jobs that train and judge.

Enters: turns of a replay. Leaves: the moment at which each may go. Does not know: what the candles say.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from streaming.clients import new_reader, started
from streaming.committed import committed_offsets
from streaming.job_feed import Jobs, Pooled
from streaming.replay import Turn
from streaming.rewind import remembered
from streaming.settings import Settings
from streaming.topics import topic_partitions

CLOSES_AHEAD = 200
"""A replay that is a clock runs at most so far ahead of what the roles have done."""
POLL_S = 0.02


class ReplayClock:
    """Lets a replay run at most `CLOSES_AHEAD` closes ahead of predict, monitor and the pool; it stands for jobs."""

    def __init__(
        self,
        settings: Settings,
        admin: AIOKafkaAdminClient,
        jobs: Jobs,
        pooled: Pooled,
        say: Callable[[str | None], None] = lambda reason: None,
    ) -> None:
        """Args: `jobs` and `pooled` are kept up to date; `say` is told why the clock stands, None: it goes."""
        self._settings = settings
        self._topic = settings.topic("candles")
        self._admin = admin
        self._jobs = jobs
        self._pooled = pooled
        self._say = say
        self._sent: deque[tuple[int, dict[int, int]]] = deque()  # uncommitted turns: closes before it, ends after it
        self._closes = 0
        self._newest_ms = 0

    async def passed(self, turn: Turn) -> None:
        """Wait while the clock is too far ahead, or a job needs it to stand still."""
        while self._sent and self._closes + turn.closes - self._sent[0][0] > CLOSES_AHEAD:
            await self._forget_committed()
        while self._pooled.lag_closes > CLOSES_AHEAD:  # noqa: ASYNC110 - else an alarm would come far too late
            await asyncio.sleep(POLL_S)
        while self._newest_ms and (reason := self._jobs.held_by(self._newest_ms)):
            self._say(reason)
            await asyncio.sleep(POLL_S)
        self._say(None)

    def sent(self, turn: Turn, ends: dict[int, int]) -> None:
        """Remember how far the log goes after this turn."""
        self._sent.append((self._closes, ends))
        self._closes += turn.closes
        self._newest_ms = turn.last_close_ms

    async def caught_up(self) -> None:
        """Wait until everything sent is committed."""
        while self._sent:
            await self._forget_committed()

    async def scored(self) -> None:
        """Wait until everything sent is committed, and the monitor has taken every signal that came of it."""
        await self.caught_up()
        async with started(new_reader(self._settings)) as reader:
            ends = await reader.end_offsets(topic_partitions(self._settings, "signals"))
        wanted = {tp.partition: end for tp, end in ends.items() if end}
        while not await self._has_taken(wanted):  # noqa: ASYNC110 - Kafka has no event for it
            await asyncio.sleep(POLL_S)

    async def _has_taken(self, signals: dict[int, int]) -> bool:
        done = await self._offsets("monitor", self._settings.topic("signals"))
        return all(partition in done and done[partition].offset >= end for partition, end in signals.items())

    async def _forget_committed(self) -> None:
        if await self._committed(self._sent[0][1]):
            self._sent.popleft()
        else:
            await asyncio.sleep(POLL_S)

    async def _committed(self, ends: dict[int, int]) -> bool:
        """Predict has done these candles, and the monitor has joined and summed all that came of them."""
        predict, monitor = await self._offsets("predict", self._topic), await self._offsets("monitor", self._topic)
        settled = {partition: remembered(offset.metadata).get("settled", 0) for partition, offset in monitor.items()}
        done = {partition: offset.offset for partition, offset in predict.items()}
        return all(min(done.get(p, -1), settled.get(p, -1)) >= end for p, end in ends.items())

    async def _offsets(self, role: str, topic: str) -> dict[int, OffsetAndMetadata]:
        offsets = await committed_offsets(self._admin, self._settings.group(role))
        return {tp.partition: offset for tp, offset in offsets.items() if tp.topic == topic}
