"""The consumer of `candles` and `signals` side by side: the same partitions of both, read at a pace that keeps either
within reach of the other.

Enters: partitions, given and taken by the group. Leaves: batches of raw records to a desk, one after another; commits
of what the desk has done, both topics together, with the offsets from which its state can be rebuilt. Does not know:
what is done with the records.

The two traps that shape this are those of `streaming.batches`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from mode import Service

from models.errors import CandlewickError
from models.outcomes import Rewind
from streaming import metrics
from streaming.batches import FETCH_WAIT_MS, PARTITION_BYTES, _Listener
from streaming.clients import CLOSE_TIMEOUT_S, close_all, new_admin, new_member, new_reader, start
from streaming.commits import Commits
from streaming.desk import Desk
from streaming.frontier import Frontier, frontiers
from streaming.resuming import batch_of, take_up
from streaming.rewind import Resume, encode_rewind
from streaming.settings import Settings
from streaming.taking import Taken, standing, take
from streaming.watchdog import Stalled, Watchdog

logger = logging.getLogger(__name__)

BATCH_RECORDS = 4_000
"""A tenth of a second's work: heartbeats wait no longer."""
AHEAD_RECORDS = 20_000
"""Candles of a partition that may be read beyond what is settled."""
WAITING_SIGNALS = 20_000
"""Of a partition; more than a batch of `predict`, within which signals may come in any order of their candles."""
FRONTIER_S = 0.2


class PairSource(Service):
    """Supervised by the Faust worker."""

    mundane_level = "debug"

    def __init__(self, settings: Settings, desk: Desk) -> None:
        self._settings = settings
        self._role = settings.monitor
        self._group = settings.group("monitor")
        self._topics = (settings.topic("candles"), settings.topic("signals"))
        self._desk = desk
        self._ready = False
        self._generation = 0
        self._plans: dict[TopicPartition, Resume] = {}
        self._positions: dict[TopicPartition, int] = {}  # offset after the last record whose results are safe
        self._frontiers: dict[int, Frontier] = {}
        self._orphans: dict[int, Frontier] = {}  # likewise, until the candles of its signals are read
        self._settled: dict[int, int] = {}  # by partition, offset of candles
        self._step = asyncio.Lock()  # held while a batch is worked on
        self._busy: Collection[TopicPartition] = ()  # whose records are in it
        self._clients: list[Any] = []
        self.caught_up = asyncio.Event()
        super().__init__()

    async def on_start(self) -> None:
        """Join the group.

        Raises:
            CandlewickError: Kafka cannot be reached.
        """
        self._admin = new_admin(self._settings)
        self._lookup = new_reader(self._settings)  # never fetches: a live long poll would hold its answers back
        self._consumer = new_member(
            self._settings,
            self._group,
            self._role.session_timeout_s,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=PARTITION_BYTES,
            partition_assignment_strategy=(RangePartitionAssignor,),  # alone keeps equal partitions together
        )
        self._watchdog = Watchdog(self._lookup, self._role.stall_timeout_s)
        self._commits = Commits(self._consumer, self._topics[0])
        self._consumer.subscribe(list(self._topics), listener=_Listener(self))
        for client in (self._admin, self._lookup, self._consumer):
            await start(client)
            self._clients.append(client)

    async def on_stop(self) -> None:
        """Finish the batch, commit it, leave the group."""
        if not self.crashed:
            try:
                async with asyncio.timeout(self._role.drain_timeout_s), self._step:
                    self._note_commits()
                    self._ready = False
            except TimeoutError:
                await self.crash(Stalled("a batch was still in flight and will be done again"))
        if self._clients:
            await self._commits.flush(CLOSE_TIMEOUT_S)
            await close_all(self._clients)
            logger.info("left the group group=%s", self._group)

    # --- the way of a batch

    @Service.task
    async def _work(self) -> None:
        while not self.should_stop:
            try:
                records = await take(self._consumer, BATCH_RECORDS, FETCH_WAIT_MS, self._within_reach())
            except IllegalStateError:  # the group is just sharing out partitions anew
                await asyncio.sleep(FETCH_WAIT_MS / 1000)
                continue
            generation = self._generation
            async with self._step:
                if self._ready and generation == self._generation:
                    await self._serve(records)

    def _within_reach(self) -> list[TopicPartition] | None:
        """The partitions to read on; None is all of them. One topic at least of each partition goes on."""
        held = [tp for tp in self._positions if self._is_held(tp)]
        return [tp for tp in self._positions if tp not in held] if held else None

    def _is_held(self, tp: TopicPartition) -> bool:
        full = self._desk.waiting(tp.partition) > WAITING_SIGNALS
        if tp.topic == self._topics[1]:
            return full
        floor = max(self._settled[tp.partition], self._plans[tp].resume)
        return self._positions[tp] - floor > AHEAD_RECORDS and not full

    async def _serve(self, records: Taken) -> None:
        candles, signals = (batch_of(records, topic, self._plans) for topic in self._topics)
        self._busy = tuple(records)
        for tp, of_one in records.items():
            self._positions[tp] = of_one[-1].offset + 1
        settled = self._newly_settled()
        if records or settled:
            await self._desk.serve(candles, signals, settled)
            self._settled |= settled
            self._check_caught_up()
        self._forget_orphans()  # after the desk has taken all that was read
        self._busy = ()

    def _newly_settled(self) -> dict[int, int]:
        found = {}
        for partition, frontier in list(self._frontiers.items()):
            candles, signals = (self._positions[TopicPartition(topic, partition)] for topic in self._topics)
            if signals >= frontier.signals:
                found[partition] = min(candles, frontier.candles)
                if candles >= frontier.candles:
                    del self._frontiers[partition]
            elif self._is_held(TopicPartition(self._topics[1], partition)):
                self._desk.let_go(partition, candles - AHEAD_RECORDS)
        return {partition: offset for partition, offset in found.items() if offset > self._settled[partition]}

    def _forget_orphans(self) -> None:
        """A signal waits for ever, and all behind it, where its candles were deleted from the log."""
        for partition, frontier in list(self._orphans.items()):
            candles, signals = (self._positions[TopicPartition(topic, partition)] for topic in self._topics)
            if candles >= frontier.logged and signals >= frontier.signals:
                self._desk.forget_orphans(partition, frontier.signals)
                del self._orphans[partition]

    def _check_caught_up(self) -> None:
        if self._ready and all(self._positions[tp] >= plan.resume for tp, plan in self._plans.items()):
            self.caught_up.set()

    @Service.task
    async def _look_ahead(self) -> None:
        """How far has `predict` come? Asked anew once the last answer has been used."""
        while not self.should_stop:
            await self.sleep(FRONTIER_S)
            generation = self._generation
            behind = {tp.partition: self._settled[tp.partition] for tp in self._positions}
            asked = {partition: behind[partition] for partition in behind.keys() - self._frontiers.keys()}
            try:
                found = await frontiers(self._settings, self._admin, self._lookup, asked) if self._ready else {}
            except (KafkaError, CandlewickError) as error:
                logger.warning("cannot hear how far predict has come error=%r", error)
                continue
            if generation == self._generation and self._ready:
                self._frontiers |= found
                self._orphans = found | self._orphans

    # --- commits

    @Service.task
    async def _commit_by_timer(self) -> None:
        while not self.should_stop:
            await self.sleep(self._role.commit_interval_s)
            async with self._step:
                self._note_commits()
            await self._commits.flush(self._role.drain_timeout_s)

    def _note_commits(self) -> None:
        """Both topics of a partition together, since each rewind rests on how far the other came."""
        if not self._ready:
            return
        for partition, rewind in self._desk.rewinds().items():
            candles, signals = (TopicPartition(topic, partition) for topic in self._topics)
            if all(self._positions[tp] >= self._plans[tp].resume for tp in (candles, signals)):
                note = encode_rewind(rewind.candles, settled=rewind.settled)
                self._commits.add_at(candles, self._positions[candles], note)
                self._commits.add_at(signals, self._positions[signals], encode_rewind(rewind.signals))

    # --- the assignment

    async def revoked(self) -> None:
        """Finish the batch and commit it, before partitions go."""
        async with asyncio.timeout(self._role.drain_timeout_s), self._step:
            self._note_commits()
            self._ready = False
            self._generation += 1
        self.caught_up.clear()
        await self._commits.flush(self._role.drain_timeout_s)

    async def assigned(self, partitions: Collection[int]) -> None:
        """Keep the state of partitions that stayed, rewind those that are new."""
        mine = set(partitions)
        known = {tp.partition for tp in self._positions}
        async with asyncio.timeout(self._role.drain_timeout_s):  # meanwhile aiokafka sends no heartbeats
            rewinds = await self._look_up(sorted(mine - known))
        # From here to the end without an await: the seeks and the flag belong to one step of the event loop.
        self._forget(known - mine)
        for partition, rewind in rewinds.items():
            self._desk.begin(partition, rewind)
            self._settled[partition] = rewind.settled
        for tp, position in self._positions.items():
            self._consumer.seek(tp, position)
        self._frontiers.clear()
        self._orphans.clear()
        self._commits.keep_only(mine)
        self._watchdog.moved()
        self._ready = True
        self._check_caught_up()
        rebuilds = sum(self._plans[tp].resume - self._plans[tp].start for tp in self._plans if tp.partition in rewinds)
        logger.info("assigned partitions=%d new=%d rebuilds_records=%d", len(mine), len(rewinds), rebuilds)

    def _forget(self, gone: Collection[int]) -> None:
        self._desk.forget(gone)
        for tp in [tp for tp in self._positions if tp.partition in gone]:
            del self._positions[tp], self._plans[tp]

    async def _look_up(self, partitions: list[int]) -> dict[int, Rewind]:
        tps = [TopicPartition(topic, partition) for partition in partitions for topic in self._topics]
        found = await take_up(self._admin, self._lookup, self._group, tps)
        for tp, taken_up in found.items():
            self._plans[tp], self._positions[tp] = taken_up.plan, taken_up.plan.start
        rewinds = {}
        for partition in partitions:
            candles, signals = (found[TopicPartition(topic, partition)] for topic in self._topics)
            settled = candles.remembered.get("settled", 0)
            rewinds[partition] = Rewind(candles.plan.start, signals.plan.start, settled)
        return rewinds

    # --- the watchdog

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(self._watchdog.interval_s)
            done = {tp: at for tp, at in self._positions.items() if not self._is_held(tp)}
            lag = await self._watchdog.look(standing(self._consumer, done, self._busy))
            if lag is not None:
                metrics.monitor_lag.set(lag)

    def ailment(self) -> str | None:
        """What is wrong just now."""
        return self._watchdog.ailment() if self.caught_up.is_set() else "starting"
