"""The owner of `scores`: it pools partial sums, watches the pooled ones for drift, and asks for training.

Enters: `scores`, partial and pooled. Leaves: pooled `scores`, `drift`, `retrain-jobs`, and commits with the offset and
the eras from which the detectors can be rebuilt. Does not know: outcomes, how drift is found, how training works.

Pooled records go through the topic before they are watched: what was decided rests on the log alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from mode import Service

from models.events import NOT_JSON, Drift, Message, RetrainJob, Scores, decode_drift, decode_scores, encode
from models.policy import DAY_MS, HOUR_MS, Policy
from models.pooling import Pool
from models.watch import Watch
from streaming import metrics
from streaming.batches import FETCH_WAIT_MS, _Listener
from streaming.clients import CLOSE_TIMEOUT_S, close_all, new_admin, new_member, new_reader, start
from streaming.commits import Commits
from streaming.job_log import read_jobs
from streaming.packing import Ack, acknowledged, send_packed
from streaming.read import read_topic
from streaming.resuming import take_up
from streaming.rewind import Resume, encode_rewind
from streaming.settings import DriftSettings, Settings
from streaming.surroundings import Follower
from streaming.taking import take
from streaming.until import until
from streaming.watchdog import Watchdog

logger = logging.getLogger(__name__)

BATCH_RECORDS = 5_000
_ERA = "era:"


def policy_of(settings: DriftSettings) -> Policy:
    """The policy that these settings describe."""
    return Policy(
        min_new_bars=settings.min_new_bars,
        judge_bars=settings.judge_bars,
        cool_down_ms=int(settings.cool_down_hours * HOUR_MS),
        retrain_after_ms=int(settings.retrain_after_days * DAY_MS),
        attempts=settings.attempts,
    )


class ScoresOwner(Service):
    """Supervised by the Faust worker; idle while another process owns the partition."""

    mundane_level = "debug"

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, follower: Follower) -> None:
        self._settings = settings
        self._role = settings.monitor
        self._producer = producer
        self._follower = follower
        self._tp = TopicPartition(settings.topic("scores"), 0)
        self._step = asyncio.Lock()
        self._generation = 0
        self._clients: list[Any] = []
        self._forget()
        super().__init__()

    def _forget(self) -> None:
        self._owns = self._rebuilt = False
        self._plan = Resume(0, 0)
        self._position = self._end = 0
        self._eras: dict[str, int] = {}
        self._pool = Pool(self._role.pool_timeout_s)
        self._watch: Watch | None = None
        metrics.drift_statistic.clear()  # the last word of one owner is not to stand beside the next one's

    async def on_start(self) -> None:
        """Join the group.

        Raises:
            CandlewickError: Kafka cannot be reached.
        """
        self._admin, self._lookup = new_admin(self._settings), new_reader(self._settings)
        group, session_s = self._settings.group("scores"), self._role.session_timeout_s
        self._consumer = new_member(self._settings, group, session_s, fetch_max_wait_ms=FETCH_WAIT_MS)
        self._watchdog = Watchdog(self._lookup, self._role.stall_timeout_s)
        self._commits = Commits(self._consumer, self._tp.topic)
        self._consumer.subscribe([self._tp.topic], listener=_Listener(self))
        for client in (self._admin, self._lookup, self._consumer):
            await start(client)
            self._clients.append(client)

    async def on_stop(self) -> None:
        """Commit and leave the group."""
        if self._clients:
            await self._commits.flush(CLOSE_TIMEOUT_S)
            await close_all(self._clients)

    # --- the way of a record

    @Service.task
    async def _work(self) -> None:
        while not self.should_stop:
            records = await take(self._consumer, BATCH_RECORDS, FETCH_WAIT_MS)
            generation = self._generation
            async with self._step:
                if self._owns and generation == self._generation:
                    await self._serve([record for of_one in records.values() for record in of_one])

    async def _serve(self, records: list[Any]) -> None:
        """Pool, watch, publish; after it all that these records led to is acknowledged."""
        if self._watch is None:
            self._watch = await self._take_over()
        drifts = self._read(records, self._watch)
        await self._publish_drift(drifts)
        pooled = list(self._pool.due(time.monotonic())) if self._rebuilt else []
        if pooled:
            await self._publish_pooled(pooled)
        _show(self._watch.readings)

    def _read(self, records: list[Any], watch: Watch) -> list[Drift]:
        drifts: list[Drift] = []
        now_s, around = time.monotonic(), self._follower.surroundings()
        for record in records:
            if record.offset < self._position:
                continue  # fetched before the seek
            self._position = record.offset + 1
            try:
                scores = decode_scores(record.value or b"")
            except NOT_JSON:
                metrics.ignored_by_monitor.labels("poison_scores").inc()
                continue
            if scores.partition is not None:
                self._pool.add(scores, record.offset, now_s)
            else:
                self._pool.note(scores, now_s)
                drifts += watch.fold(record.offset, scores, around if record.offset >= self._plan.resume else None)
        self._rebuilt = self._rebuilt or self._position >= self._end
        return drifts

    async def _publish_pooled(self, pooled: list[Scores]) -> None:
        messages = [Message(one.model.encode(), encode(one), one.target_time_ms) for one in pooled]
        await acknowledged(await send_packed(self._producer, self._tp.topic, 0, messages), self._role.kafka_timeout_s)
        for one in pooled:
            metrics.pooled_closes.labels(one.model).inc()

    async def _publish_drift(self, drifts: list[Drift]) -> None:
        """Records first, then their jobs: who takes over asks again for a job whose record alone is there."""
        if not drifts:
            return
        messages = [Message(drift.model.encode(), encode(drift), drift.target_time_ms) for drift in drifts]
        sent = await send_packed(self._producer, self._settings.topic("drift"), 0, messages)
        await acknowledged(sent, self._role.kafka_timeout_s)
        for drift in drifts:
            metrics.drift_events.labels(drift.model, drift.level).inc()
            logger.info(
                "drift model=%s target_time_ms=%d detector=%s level=%s statistic=%.4f decision=%s reason=%s",
                drift.model, drift.target_time_ms, drift.detector, drift.level, drift.statistic, drift.decision,
                drift.reason,
            )  # fmt: skip
            if drift.job is not None:
                await self._ask(drift.job)

    async def _ask(self, job: RetrainJob) -> None:
        sent = await self._producer.send(self._settings.topic("retrain-jobs"), encode(job), job.job.encode())
        await acknowledged([Ack(sent, 1)], self._role.kafka_timeout_s)
        metrics.jobs_requested.labels(job.why).inc()

    async def _take_over(self) -> Watch:
        """Hear what was decided, and ask for the jobs that were decided upon and not asked for."""
        decided: list[Drift] = []
        async with asyncio.timeout(self._role.kafka_timeout_s):
            async for record in read_topic(self._settings, "drift"):
                try:
                    decided.append(decode_drift(record.value or b""))
                except NOT_JSON:
                    metrics.ignored_by_monitor.labels("poison_drift").inc()
            asked = await read_jobs(self._settings)  # the follower may be a little behind
            await until(self._follower.at_end, self._follower)
        for drift in decided:
            if drift.job is not None and drift.job.job not in asked:
                await self._ask(drift.job)
        rebuilds = self._plan.resume - self._position
        logger.info("owns scores drift_records=%d rebuilds_records=%d", len(decided), rebuilds)
        return Watch(policy_of(self._settings.drift), decided, self._eras)

    # --- commits

    @Service.task
    async def _commit_by_timer(self) -> None:
        while not self.should_stop:
            await self.sleep(self._role.commit_interval_s)
            async with self._step:
                self._note_commit()
            await self._commits.flush(self._role.drain_timeout_s)

    def _note_commit(self) -> None:
        if self._owns and self._watch is not None and self._position >= self._plan.resume:
            rewind = self._watch.rewind_offset(self._pool.rewind_offset(self._position))
            eras = {f"{_ERA}{model}": began_ms for model, began_ms in self._watch.eras.items()}
            self._commits.add_at(self._tp, self._position, encode_rewind(rewind, **eras))

    # --- the watchdog

    @Service.task
    async def _watch_progress(self) -> None:
        while not self.should_stop:
            await self.sleep(self._watchdog.interval_s)
            await self._watchdog.look({self._tp: self._position} if self._owns else {})

    # --- the assignment

    async def revoked(self) -> None:
        """Finish and commit, before the partition goes."""
        async with asyncio.timeout(self._role.drain_timeout_s), self._step:
            self._note_commit()
            self._owns = False
            self._generation += 1
        await self._commits.flush(self._role.drain_timeout_s)

    async def assigned(self, partitions: Collection[int]) -> None:
        """Begin where the last owner's commit says."""
        self._forget()
        if 0 not in set(partitions):
            self._commits.keep_only(())
            return
        async with asyncio.timeout(self._role.drain_timeout_s):
            found = await take_up(self._admin, self._lookup, self._settings.group("scores"), [self._tp])
        self._plan, known, self._end = found[self._tp]
        self._position = self._plan.start
        self._eras = {name.removeprefix(_ERA): value for name, value in known.items() if name.startswith(_ERA)}
        self._consumer.seek(self._tp, self._position)
        self._owns = True


def _show(readings: Mapping[tuple[str, str], float]) -> None:
    """What the detectors watch, by model and detector; the models' counters of drift begin at 0 beside it."""
    for (model, detector), value in readings.items():
        metrics.drift_statistic.labels(model, detector).set(value)
    for model in {model for model, _ in readings}:
        for level in metrics.DRIFT_LEVELS:
            metrics.drift_events.labels(model, level)
