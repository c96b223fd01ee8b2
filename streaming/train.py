"""The role `train`: jobs, one at a time, each to its end.

Enters: `retrain-jobs`. Leaves: what a job leaves, and a commit once it has ended. Does not know: what a job does.

A job may take days, most of them waiting. All the while the group is answered and nothing more is taken. When the
partition of the job goes to another process, the job is dropped here: the other one takes it up from its events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from mode import Service

from models.errors import CandlewickError
from streaming import metrics
from streaming.clients import close_all, connection, is_of_kafka, new_producer, start
from streaming.job import Job
from streaming.job_log import JobLog, parse_job
from streaming.settings import Settings
from streaming.topics import check_topics

logger = logging.getLogger(__name__)

POLL_MS = 200
MOST_KAFKA_FAILURES = 10
FIRST_DELAY_S, MOST_DELAY_S = 1.0, 30.0
STOP_TIMEOUT_S = 7.0
"""A training process has 5 s to end; then it is killed."""


class Train(Service):
    """Supervised by the Faust worker."""

    mundane_level = "debug"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topic("retrain-jobs")
        self._clients: list[Any] = []
        self._at: TopicPartition | None = None  # whose job is being done
        self._working: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()  # joined; no partitions is ready too
        super().__init__()

    async def on_start(self) -> None:
        """Join the group.

        Raises:
            CandlewickError: Kafka cannot be reached, or lacks a topic.
        """
        await check_topics(self._settings, "candles", "retrain-jobs", "job-events", "models")
        session_ms = int(self._settings.train.session_timeout_s * 1000)
        self._producer = new_producer(self._settings, linger_ms=0)
        self._consumer = AIOKafkaConsumer(
            **connection(self._settings),
            group_id=self._settings.group("train"),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 4,
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )
        self._consumer.subscribe([self._topic], listener=_Listener(self))
        for client in (self._producer, self._consumer):
            await start(client)
            self._clients.append(client)

    async def on_stop(self) -> None:
        """Drop the job, which stands where it stood, and leave the group."""
        await self._drop()
        await close_all(self._clients)

    @Service.task
    async def _take(self) -> None:
        """Take the next job while none is being done; answer the group in any case."""
        while not self.should_stop:
            self._hold_or_go_on()
            for tp, (record,) in (await self._consumer.getmany(timeout_ms=POLL_MS, max_records=1)).items():
                if self._working is None:
                    self._at, self._working = tp, asyncio.create_task(self._do(tp, record))
                else:  # fetched just before it was paused, or given out anew by a rebalance
                    self._put_back(tp, record.offset)

    def _hold_or_go_on(self) -> None:
        """A rebalance forgets what was paused, so this is said again and again."""
        if self._working is not None and self._working.done():
            working, self._working, self._at = self._working, None, None
            if not working.cancelled():
                working.result()  # whatever broke ends the process
        mine = self._consumer.assignment()
        held = self._consumer.paused() & mine
        if self._working is not None:
            self._consumer.pause(*(mine - held))
        else:
            self._consumer.resume(*held)

    def _put_back(self, tp: TopicPartition, offset: int) -> None:
        try:
            self._consumer.seek(tp, offset)
        except IllegalStateError:
            logger.info("lost meanwhile at=%s[%d]", tp.topic, tp.partition)

    # --- one job

    async def _do(self, tp: TopicPartition, record: Any) -> None:
        """Bring a job to its end, then commit."""
        metrics.job_running.set(1)
        try:
            job = parse_job(record.value)
        except CandlewickError as error:
            metrics.jobs_skipped.inc()
            logger.error("no job at=%s[%d]@%d reason=%s", tp.topic, tp.partition, record.offset, error)
        else:
            await self._finish(Job(self._settings, JobLog(self._settings, self._producer, job), job))
        finally:
            metrics.job_running.set(0)
        await self._commit(tp, record.offset + 1)

    async def _finish(self, job: Job) -> None:
        """Try again while Kafka fails, within a bound."""
        for failures in range(1, MOST_KAFKA_FAILURES + 1):
            try:
                await job.finish()
            except (CandlewickError, KafkaError, TimeoutError) as error:
                if not is_of_kafka(error) or failures == MOST_KAFKA_FAILURES:
                    raise
                delay_s = min(MOST_DELAY_S, FIRST_DELAY_S * 2 ** (failures - 1))
                logger.warning("Kafka failed, the job goes on in_s=%.0f error=%r", delay_s, error)
                await asyncio.sleep(delay_s)
            else:
                return

    async def _commit(self, tp: TopicPartition, offset: int) -> None:
        """Where that fails the job is read again, found to have ended, and committed then."""
        try:
            await self._consumer.commit({tp: OffsetAndMetadata(offset, "")})
            self._consumer.seek(tp, offset)
        except (KafkaError, IllegalStateError) as error:
            logger.info("commit came too late for this assignment error=%r", error)

    async def _drop(self) -> None:
        if self._working is not None and not self._working.done():
            self._working.cancel()
            await asyncio.wait([self._working], timeout=STOP_TIMEOUT_S)

    # --- the assignment

    async def assigned(self, mine: Collection[TopicPartition]) -> None:
        """A job goes on while its partition is ours."""
        if self._at is not None and self._at not in mine:
            logger.warning("job dropped: its partition went to another process at=%s[%d]", *self._at)
            await self._drop()
        logger.info("assigned partitions=%d", len(mine))
        self.ready.set()


class _Listener(ConsumerRebalanceListener):
    """Tells the role; aiokafka swallows exceptions here, so a failure ends the process by hand."""

    def __init__(self, role: Train) -> None:
        self._role = role

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Every rebalance takes all; what is really lost is known when they are given again."""

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        try:
            await self._role.assigned(assigned)
        except Exception as error:
            logger.exception("rebalance failed")
            await self._role.crash(error)
