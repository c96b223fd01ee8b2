"""Every retraining job and where it stands, followed as it is told.

Enters: records of `retrain-jobs` and `job-events`. Leaves: jobs with their states, and whether a replay has to wait for
one. Does not know: who asks for jobs or does them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from models.events import JobEvent, RetrainJob, decode_job, decode_job_event
from models.jobs import JobState
from streaming.clients import new_reader, started
from streaming.settings import Settings
from streaming.topics import topic_partitions

logger = logging.getLogger(__name__)


class Jobs:
    """Every job and where it stands, from the records of `retrain-jobs` and `job-events` as they come."""

    def __init__(self) -> None:
        self.asked: dict[str, RetrainJob] = {}
        self.states: dict[str, JobState] = {}
        self._trained: set[str] = set()

    def ask(self, job: RetrainJob) -> None:
        """A job was asked for; twice is once."""
        self.asked.setdefault(job.job, job)

    def tell(self, event: JobEvent) -> None:
        """A job got further."""
        self.states[event.job] = self.states.get(event.job, JobState()).after(event)
        if event.step == "judging" or (event.step == "training" and event.share == 1.0):
            self._trained.add(event.job)

    def held_by(self, close_ms: int) -> str | None:
        """Why the candle of this close has to wait: a job has all the candles it needs and is not done with them.

        A trainer sees that a close is there by the one after it, so that one still goes.
        """
        for job in self.asked.values():
            if self.states.get(job.job, JobState()).end is not None:
                continue
            if close_ms > job.judge_until_ms:
                return "the gate judges; the replay stands still"
            if close_ms > job.train_until_ms and job.job not in self._trained:
                return "a challenger trains; the replay stands still"
        return None

    async def follow(self, settings: Settings) -> None:
        """Read both topics from their beginning until cancelled; what is no job is skipped."""
        topic = settings.topic("retrain-jobs")
        tps = topic_partitions(settings, "retrain-jobs") + topic_partitions(settings, "job-events")
        async with started(new_reader(settings)) as reader:
            reader.assign(tps)
            await reader.seek_to_beginning()
            while True:
                for tp, records in (await reader.getmany(timeout_ms=100)).items():
                    for record in records:
                        self._take(record, tp.topic == topic)

    def _take(self, record: Any, is_job: bool) -> None:
        try:
            if is_job:
                self.ask(decode_job(record.value or b""))
            else:
                self.tell(decode_job_event(record.value or b""))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.warning("no job at=%s[%d]@%d error=%s", record.topic, record.partition, record.offset, error)


@asynccontextmanager
async def following(settings: Settings, jobs: Jobs) -> AsyncIterator[asyncio.Task[None]]:
    """Keep jobs up to date while this lasts."""
    task = asyncio.create_task(jobs.follow(settings))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
