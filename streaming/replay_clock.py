"""The clock of a replayed world: it waits for those who work on its candles, and for jobs that train and judge.

Enters: turns of a replay. Leaves: the moment at which each may go. Does not know: what the candles say.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from aiokafka.admin import AIOKafkaAdminClient

from streaming.clients import new_reader, started
from streaming.job_feed import Jobs
from streaming.replay import Turn
from streaming.settings import Settings
from streaming.topics import topic_partitions

CLOSES_AHEAD = 200
"""A replay that is a clock runs at most so far ahead of what the roles have committed."""
POLL_S = 0.02


class ReplayClock:
    """Lets a replay run at most `CLOSES_AHEAD` closes ahead of every group's commits, and stand still for jobs."""

    def __init__(
        self,
        settings: Settings,
        admin: AIOKafkaAdminClient,
        roles: Sequence[str],
        jobs: Jobs,
        say: Callable[[str | None], None] = lambda reason: None,
    ) -> None:
        """Args: `roles` whose commits on `candles` are awaited; `say` is told why the clock stands, None: it goes."""
        self._settings = settings
        self._topic = settings.topic("candles")
        self._admin = admin
        self._groups = [settings.group(role) for role in roles]
        self._jobs = jobs
        self._say = say
        self._sent: deque[tuple[int, dict[int, int]]] = deque()  # uncommitted turns: closes before it, ends after it
        self._closes = 0
        self._newest_ms = 0

    async def passed(self, turn: Turn) -> None:
        """Wait while the clock is too far ahead, or a job needs it to stand still."""
        while self._sent and self._closes + turn.closes - self._sent[0][0] > CLOSES_AHEAD:
            await self._forget_committed()
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
        group, topic = self._settings.group("monitor"), self._settings.topic("signals")
        while not await self._has(group, topic, wanted):  # noqa: ASYNC110 - Kafka has no event for it
            await asyncio.sleep(POLL_S)

    async def _forget_committed(self) -> None:
        if await self._committed(self._sent[0][1]):
            self._sent.popleft()
        else:
            await asyncio.sleep(POLL_S)

    async def _committed(self, ends: dict[int, int]) -> bool:
        return all([await self._has(group, self._topic, ends) for group in self._groups])

    async def _has(self, group: str, topic: str, ends: dict[int, int]) -> bool:
        offsets = await self._admin.list_consumer_group_offsets(group)
        done = {tp.partition: offset.offset for tp, offset in offsets.items() if tp.topic == topic}
        return all(done.get(partition, -1) >= end for partition, end in ends.items())
