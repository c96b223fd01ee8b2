"""The consumer of `candles`: it fetches batches, hands them to an agent through a bounded channel, and commits what was
acknowledged, each commit with the offset from which state can be rebuilt.

Enters: partitions, given and taken by the group. Leaves: batches of raw records. Does not know: what is done with them.

Two traps shape it (see docs/adr/0001). aiokafka hands out records of a new assignment before the callback that seeks
has finished, so nothing is taken until `_ready`, which is raised in the same event-loop step as the seeks. And it
swallows what that callback raises, so every failure there ends the process by hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from mode import Service

from models.decode import Records
from streaming import metrics
from streaming.chunk_reader import read_all_in_chunks
from streaming.clients import CLOSE_TIMEOUT_S, close_all, new_admin, new_member, new_reader, start
from streaming.commits import Commits
from streaming.raw_records import Found, keep_bytes, side_by_side
from streaming.resuming import take_up
from streaming.rewind import Resume
from streaming.settings import Settings
from streaming.taking import fetch_ahead, standing, take_raw
from streaming.watchdog import Stalled, Watchdog

logger = logging.getLogger(__name__)

FETCH_WAIT_MS = 50  # a longer poll holds back whatever else goes through this connection, the commit among it
PARTITION_BYTES = 1 << 20
IN_FLIGHT = 2
"""Batches in the channel: one being worked on, one ready, and Kafka waits with the rest."""
LONG_BATCH_S = 1.0
"""A batch that takes longer is followed by smaller ones: what is in flight must be done before a rebalance gives up."""
LEAST_RECORDS = 64


class Fetched(NamedTuple):
    """A batch, and where each partition stands once it is done."""

    records: Records
    ends: dict[int, int]  # partition to the offset after its last record


class BatchSource(Service):
    """Supervised by the Faust worker. The agent calls `done` once all that a batch led to is acknowledged."""

    mundane_level = "debug"

    def __init__(
        self, settings: Settings, put: Callable[[Fetched], Any], forget: Callable[[Collection[int]], None]
    ) -> None:
        self._settings = settings
        self._role = settings.predict
        self._group = settings.group("predict")
        self._topic = settings.topic("candles")
        self._put = put  # awaits while the channel is full
        self._forget = forget
        self._ready = False
        self._plans: dict[int, Resume] = {}
        self._positions: dict[int, int] = {}  # partition to the offset after the last record whose results are safe
        self._taken: dict[int, int] = {}  # likewise, after the last one that was handed on
        self._clients: list[Any] = []
        self._take = LEAST_RECORDS  # records of the next batch, at most
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.caught_up = asyncio.Event()  # joined, and every window rebuilt
        super().__init__()

    async def on_start(self) -> None:
        """Join the group.

        Raises:
            CandlewickError: Kafka cannot be reached.
        """
        keep_bytes()
        read_all_in_chunks()
        self._admin = new_admin(self._settings)
        self._lookup = new_reader(self._settings)  # never fetches: a live long poll would hold its answers back
        self._consumer = new_member(
            self._settings,
            self._group,
            self._role.session_timeout_s,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=PARTITION_BYTES,
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )
        self._watchdog = Watchdog(self._lookup, self._role.stall_timeout_s)
        self._commits = Commits(self._consumer, self._topic)
        self._consumer.subscribe([self._topic], listener=_Listener(self))
        for client in (self._admin, self._lookup, self._consumer):
            await start(client)
            self._clients.append(client)
        fetch_ahead(self._consumer)

    async def on_stop(self) -> None:
        """Finish what is in flight, commit it, leave the group."""
        self._ready = False
        if not self.crashed and not await self._drained():
            await self.crash(Stalled(f"{self._in_flight} batches were still in flight and will be done again"))
        if self._clients:
            await self._commits.flush(CLOSE_TIMEOUT_S)
            await close_all(self._clients)
            logger.info("left the group group=%s", self._group)

    # --- the way of a batch

    @Service.task
    async def _fetch(self) -> None:
        while not self.should_stop:
            found = await take_raw(self._consumer, self._take, FETCH_WAIT_MS)
            if found and self._ready:
                self._in_flight += 1
                self._idle.clear()
                await self._put(self._fetched(found))
            elif not self.caught_up.is_set():
                self._check_caught_up()  # the end of a transaction may be all that was missing, and is no record

    def _fetched(self, found: dict[TopicPartition, Found]) -> Fetched:
        resumes = {tp.partition: self._plans[tp.partition].resume for tp in found}
        ends = {tp.partition: each.end for tp, each in found.items()}
        self._taken |= ends
        return Fetched(side_by_side(found, resumes), ends)

    def done(self, fetched: Fetched, rewinds: dict[int, int], took_s: float) -> None:
        """All that this batch led to is acknowledged; its offsets may be committed.

        Args:
            fetched: the batch.
            rewinds: per partition, the offset from which the state after this very batch can be rebuilt.
            took_s: how long the work on it took.
        """
        for partition, end in fetched.ends.items():
            self._positions[partition] = end
            if end >= self._plans[partition].resume:
                self._commits.add(partition, end, rewinds.get(partition, end))
        self._pace(len(fetched.records.offsets), took_s)
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()
        self._check_caught_up()

    def _pace(self, records: int, took_s: float) -> None:
        """Twice as many next time where a full batch went quickly, half as many where one took long."""
        if took_s > LONG_BATCH_S:
            self._take = max(LEAST_RECORDS, min(self._take, records) // 2)
        elif records >= self._take:
            self._take = min(self._role.max_batch_records, self._take * 2)

    def _check_caught_up(self) -> None:
        if self._ready and all(at >= self._plans[tp.partition].resume for tp, at in self._standing().items()):
            self.caught_up.set()

    def _standing(self) -> dict[TopicPartition, int]:
        tps = {partition: TopicPartition(self._topic, partition) for partition in self._positions}
        busy = {tp for partition, tp in tps.items() if self._taken[partition] > self._positions[partition]}
        return standing(self._consumer, {tp: self._positions[partition] for partition, tp in tps.items()}, busy)

    async def _drained(self) -> bool:
        try:
            await asyncio.wait_for(self._idle.wait(), self._role.drain_timeout_s)
        except TimeoutError:
            return False
        return True

    # --- commits

    @Service.task
    async def _commit_by_timer(self) -> None:
        while not self.should_stop:
            await self.sleep(self._role.commit_interval_s)
            await self._commits.flush(self._role.drain_timeout_s)

    # --- the assignment

    async def revoked(self) -> None:
        """Finish what is in flight and commit it, before partitions go."""
        self._ready = False
        self.caught_up.clear()
        if not await self._drained():
            raise Stalled(f"a batch was still not done {self._role.drain_timeout_s:g} s after a rebalance began")
        await self._commits.flush(self._role.drain_timeout_s)

    async def assigned(self, partitions: Iterable[int]) -> None:
        """Keep the state of partitions that stayed, rewind those that are new."""
        mine = set(partitions)
        new = sorted(mine - set(self._positions))
        async with asyncio.timeout(self._role.drain_timeout_s):  # meanwhile aiokafka sends no heartbeats
            plans = await self._look_up(new)
        # From here to the end without an await: the seeks and the flag belong to one step of the event loop.
        gone = set(self._positions) - mine
        self._forget(gone)
        for partition in gone:
            del self._positions[partition], self._plans[partition]
        for partition in new:
            self._plans[partition] = plans[partition]
            self._positions[partition] = plans[partition].start
        for partition in mine:
            self._consumer.seek(TopicPartition(self._topic, partition), self._positions[partition])
        self._taken = dict(self._positions)
        self._commits.keep_only(mine)
        self._watchdog.moved()
        self._ready = True
        self._check_caught_up()
        rebuilds = sum(plan.resume - plan.start for plan in plans.values())
        logger.info("assigned partitions=%d new=%d rebuilds_records=%d", len(mine), len(new), rebuilds)
        metrics.assigned_partitions.set(len(mine))

    async def _look_up(self, partitions: list[int]) -> dict[int, Resume]:
        tps = [TopicPartition(self._topic, partition) for partition in partitions]
        found = await take_up(self._admin, self._lookup, self._group, tps)
        return {tp.partition: taken_up.plan for tp, taken_up in found.items()}

    # --- the watchdog

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(self._watchdog.interval_s)
            lag = await self._watchdog.look(self._standing())
            if lag is not None:
                metrics.lag.set(lag)

    def ailment(self) -> str | None:
        """What is wrong just now."""
        return self._watchdog.ailment() if self.caught_up.is_set() else "starting"


class _Listener(ConsumerRebalanceListener):
    """Tells the source; aiokafka swallows exceptions here, so a failure ends the process by hand."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._or_crash(self._source.revoked())

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._or_crash(self._source.assigned(tp.partition for tp in assigned))

    async def _or_crash(self, step: Any) -> None:
        try:
            await step
        except Exception as error:
            logger.exception("rebalance failed")
            await self._source.crash(error)
